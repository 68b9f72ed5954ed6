/** Counts and times tokens in the sampler, because pieces of text do not correspond to tokens. */
import type {samplers} from 'tfjs-gemma3';

export interface Measurements {
  /** Number of generated tokens, including the token that ends the text. */
  newTokens: number;
  /** Time from the start to the first token; 0 if there is none. */
  prefillSeconds: number;
  /** Time from the first token to the end; 0 if there is none. */
  decodeSeconds: number;
}

/** Starts to measure a sampler. The returned function stops it and returns the measurements. */
export function meter(sampler: samplers.Sampler): () => Measurements {
  const start = performance.now();
  let first = 0;
  let newTokens = 0;
  const steps = sampler.steps.bind(sampler);
  sampler.steps = async function* (generation) {
    for await (const step of steps(generation)) {
      if (newTokens === 0) first = performance.now();
      newTokens += step.tokens.filter(token => token !== null).length;
      yield step;
    }
  };
  return () => {
    sampler.steps = steps;
    const seconds = (from: number, to: number) => (newTokens ? (to - from) / 1000 : 0);
    return {newTokens, prefillSeconds: seconds(start, first), decodeSeconds: seconds(first, performance.now())};
  };
}

/** Counts and times tokens where they come into being: pieces of text are not tokens. */
import type {samplers} from 'tfjs-gemma3';

export interface Measured {
  /** Tokens that the model gave, one that ends a text included. */
  newTokens: number;
  /** From the start to the first token; 0 without one. */
  prefillSeconds: number;
  /** From the first token to the end. */
  decodeSeconds: number;
}

/** Watches a sampler; generation starts now. The function that is returned ends it. */
export function meter(sampler: samplers.Sampler): () => Measured {
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

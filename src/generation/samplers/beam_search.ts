/** The search of `BeamSampler`. */
import type * as tf from '@tensorflow/tfjs';
import {logWeight} from '../../ops/row_numbers';
import {softmaxSums} from '../../ops/sampling';
import {nextLogits} from '../decoder';
import {type Generation, type Step} from '../generation';
import {type TokenLogprobs} from '../logprobs';
import {bestTokens} from './best_tokens';
import {type WithPenalties} from './penalties';

/** A continuation of a prompt. */
export interface Beam {
  /** New token ids, including a stop token if one ended it. */
  tokens: number[];
  /** Sum of the log probabilities of its tokens, at the sampler's temperature. */
  logProb: number;
}

/** The sampler's settings. */
interface BeamSettings {
  readonly numBeams: number;
  readonly returnAllBeams: boolean;
  readonly temperature: number;
}

interface OpenBeam extends Beam {
  ended: boolean;
  /** The row of logits that it was continued from. */
  parent: number;
  logprobs: TokenLogprobs[];
}

export class BeamSearch {
  constructor(
    private readonly sampler: BeamSettings,
    private readonly withPenalties: WithPenalties,
  ) {}

  /** @returns the beams of each prompt, best first. */
  async *steps(generation: Generation): AsyncGenerator<Step, Beam[][]> {
    const {decoder, rows} = generation;
    const cache = generation.newCache();
    let beams = rows.map(({done}, parent): OpenBeam[] => [{tokens: [], logProb: 0, ended: done, parent, logprobs: []}]);
    try {
      let logits = await generation.readPrompts(cache);
      for (;;) {
        try {
          beams = await this.extend(generation, logits, beams);
        } finally {
          logits.dispose();
        }
        await generation.turn();
        for (const step of this.decided(generation, beams)) yield* generation.give(step);
        const open = beams.flatMap((kept, row) => (rows[row]!.done ? [] : kept.filter(({ended}) => !ended)));
        if (open.length === 0) break;
        cache.select(open.map(({parent}) => parent));
        open.forEach((beam, row) => (beam.parent = row));
        const next = {rows: open.map(({tokens}) => [tokens.at(-1)!]), counts: open.map(() => 1)};
        logits = nextLogits(decoder, next, cache);
      }
    } finally {
      cache.dispose();
    }
    return beams.map(kept => kept.map(({tokens, logProb}) => ({tokens, logProb})));
  }

  /** Extends all open beams by one token and keeps the best of each row, best first. */
  private async extend(generation: Generation, logits: tf.Tensor2D, beams: OpenBeam[][]): Promise<OpenBeam[][]> {
    const {rows} = generation;
    const open = beams.flatMap((kept, i) => kept.flatMap(beam => (beam.ended ? [] : [{beam, row: rows[i]!}])));
    // No beam continues from the logits of a prompt that already has `maxLength` tokens: their values do not matter.
    const texts = Array.from({length: logits.shape[0]}, () => rows[0]!);
    for (const {beam, row} of open) {
      texts[beam.parent] = {...row, tokens: [...row.tokens.slice(0, row.promptLength), ...beam.tokens]};
    }
    const candidates = await this.withPenalties(logits, texts, logits => this.candidates(logits));
    const next = beams.map((kept, i) => {
      if (rows[i]!.done) return kept;
      const length = rows[i]!.promptLength + 1;
      const longer = kept.flatMap(beam => {
        if (beam.ended) return [beam];
        return candidates[beam.parent]!.map(({token, logProb}): OpenBeam => ({
          tokens: [...beam.tokens, token],
          logProb: beam.logProb + logProb,
          ended: generation.endsWith(token, length + beam.tokens.length, i),
          parent: beam.parent,
          logprobs: beam.logprobs,
        }));
      });
      return longer
        .sort((a, b) => (a.logProb === b.logProb ? 0 : b.logProb - a.logProb))
        .slice(0, this.sampler.numBeams);
    });
    const known = new Set(beams.flat());
    const added = next.flat().filter(beam => !known.has(beam));
    const logprobs = await generation.logprobs(
      logits,
      added.map(({parent, tokens}) => ({row: parent, token: tokens.at(-1)!})),
    );
    added.forEach((beam, i) => logprobs && (beam.logprobs = [...beam.logprobs, logprobs[i]!]));
    return next;
  }

  /** The `numBeams` most probable tokens of each row, with their log probabilities: no beam needs more. */
  private async candidates(logits: tf.Tensor2D): Promise<{token: number; logProb: number}[][]> {
    const summed = softmaxSums(logits, this.sampler.temperature);
    const sums = await summed.data();
    summed.dispose();
    return (await bestTokens(logits, this.sampler.numBeams)).map(({values, tokens}, row) =>
      tokens.map((token, i) => ({
        token,
        logProb: logWeight(values[i]!, sums[2 * row]!, this.sampler.temperature) - Math.log(sums[2 * row + 1]!),
      })),
    );
  }

  /**
   * Tokens that are final but not yielded yet: the common beginning of a row's beams, or the whole best beam once no
   * other can overtake it.
   */
  private decided({rows, request}: Generation, beams: readonly OpenBeam[][]): Step[] {
    const added = beams.map((kept, i) => {
      const row = rows[i]!;
      if (row.done) return [];
      const [best] = kept as [OpenBeam, ...OpenBeam[]];
      // A sum of log probabilities only decreases, so an open beam cannot overtake an ended one that is the best.
      const won = kept.every(({ended}) => ended) || (best.ended && !this.sampler.returnAllBeams);
      const common = best.tokens.findIndex((token, t) => kept.some(({tokens}) => tokens[t] !== token));
      const end = won || common < 0 ? best.tokens.length : common;
      return best.tokens.slice(0, end).flatMap((token, t) => {
        const given = t < row.tokens.length - row.promptLength;
        return given ? [] : [{token, logprobs: best.logprobs[t]}];
      });
    });
    const length = Math.max(...added.map(row => row.length));
    const steps = Array.from({length}, (_, t) => added.map(row => row[t]));
    return steps.map(step => ({
      tokens: step.map(item => item?.token ?? null),
      ...(request.logprobs !== undefined && {logprobs: step.map(item => item?.logprobs ?? null)}),
    }));
  }
}

import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../../errors';
import {softmaxSums} from '../../ops/sampling';
import {type Generation, type Step} from '../engine';
import {bestTokens} from './best_tokens';
import {GreedySampler} from './greedy_sampler';
import {checkedSamplerArgs, Sampler, SAMPLER_KEYS, type SamplerArgs} from './sampler';

export interface ContrastiveSamplerArgs extends SamplerArgs {
  /** How many of the most probable tokens are tried. Defaults to 5. */
  k?: number;
  /** Weight of the similarity to what was before, against 1 − alpha for the probability. Defaults to 0.6. */
  alpha?: number;
}

/** A token that is tried, and its probability. */
interface Candidate {
  token: number;
  probability: number;
}

/**
 * Contrastive search, as `keras_hub.samplers.ContrastiveSampler`; Su et al., https://arxiv.org/abs/2202.06417. Of the `k`
 * most probable tokens it takes the one with the largest (1 − alpha) · probability − alpha · similarity, which is the
 * largest cosine between the token's hidden state and those of all tokens before it.
 *
 * Each step runs the model on k tokens a row.
 */
export class ContrastiveSampler extends Sampler {
  readonly k: number;
  readonly alpha: number;

  constructor(args: ContrastiveSamplerArgs = {}) {
    const {k = 5, alpha = 0.6, ...rest} = checkedSamplerArgs('ContrastiveSampler', args, [
      'k',
      'alpha',
      ...SAMPLER_KEYS,
    ]);
    super(rest);
    if (!Number.isInteger(k) || k < 1) {
      throw new ValueError(`ContrastiveSampler expected k to be a positive integer. Received: k=${show(k)}.`);
    }
    if (!(alpha >= 0 && alpha <= 1)) {
      throw new ValueError(`ContrastiveSampler expected alpha from 0 to 1. Received: alpha=${show(alpha)}.`);
    }
    this.k = k;
    this.alpha = alpha;
  }

  /** By probability alone, where there are no hidden states. */
  override getNextToken(probabilities: Float32Array): number {
    return GreedySampler.prototype.getNextToken(probabilities);
  }

  override async *steps(generation: Generation): AsyncGenerator<Step, void> {
    const {decoder, rows} = generation;
    const cache = generation.newCache();
    /** Hidden states of each row so far, (n, D) of length 1. */
    const past: tf.Tensor2D[] = [];
    const append = (row: number, states: tf.Tensor2D) => {
      const before = past[row];
      past[row] = tf.keep(before ? tf.concat([before, states], 0) : tf.clone(states));
      before?.dispose();
    };
    let logits: tf.Tensor2D | undefined;
    let hidden: tf.Tensor2D | undefined;
    try {
      logits = await generation.readPrompts(cache, {
        onHidden: (hidden, counts) =>
          tf.tidy(() => {
            const states = tf.unstack(hidden, 0) as tf.Tensor2D[];
            counts.forEach((count, row) => append(row, unit(decoder.finalStates(tf.slice(states[row]!, 0, count)))));
          }),
      });
      let open = rows.map((_, row) => row);
      let parents = [...open];
      for (;;) {
        const texts = open.map(row => rows[row]!);
        // Rows without room were read with the others, and are left out here.
        const all = await this.withPenalties(logits, texts, penalized => this.candidates(penalized));
        const at = open.flatMap((row, i) => (rows[row]!.done ? [] : [i]));
        const tried = at.map(i => all[i]!);
        cache.select(at.flatMap((i, j) => tried[j]!.map(() => parents[i]!)));
        const tokens = tried.flat().map(({token}) => [token]);
        const states = tf.tidy(() => {
          const next = decoder.hiddenStates({rows: tokens, counts: tokens.map(() => 1)}, cache);
          hidden = tf.keep(tf.reshape(next, [tokens.length, -1]) as tf.Tensor2D);
          return unit(decoder.finalStates(hidden));
        });
        const before = logits;
        try {
          const similarities = await largestCosines(
            states,
            at.map(i => past[open[i]!]!),
            tried.map(({length}) => length),
          );
          let first = 0;
          const chosen = tried.map(candidates => {
            const scores = candidates.map(
              ({probability}, j) => (1 - this.alpha) * probability - this.alpha * similarities[first + j]!,
            );
            first += candidates.length;
            return first - candidates.length + scores.indexOf(Math.max(...scores));
          });
          open = at.map(i => open[i]!);
          chosen.forEach((place, i) => tf.tidy(() => append(open[i]!, tf.slice(states, place, 1))));
          const picks = chosen.map((place, i) => ({row: at[i]!, token: tokens[place]![0]!}));
          const logprobs = await generation.logprobs(logits, picks);
          await generation.turn();
          const spread = <T>(values: readonly T[]) => rows.map((_, row) => values[open.indexOf(row)] ?? null);
          yield* generation.give({
            tokens: spread(picks.map(({token}) => token)),
            ...(logprobs && {logprobs: spread(logprobs)}),
          });
          if (generation.done) return;
          const picked = hidden!;
          logits = tf.tidy(() => decoder.logits(tf.gather(picked, tf.tensor1d(chosen, 'int32'))));
          parents = chosen;
        } finally {
          before.dispose();
          tf.dispose([states, hidden!]);
        }
      }
    } finally {
      tf.dispose([...past, ...[logits, hidden].filter(tensor => tensor && !tensor.isDisposed)]);
      cache.dispose();
    }
  }

  private async candidates(logits: tf.Tensor2D): Promise<Candidate[][]> {
    const summed = softmaxSums(logits, this.temperature);
    const sums = await summed.data();
    summed.dispose();
    return (await bestTokens(logits, this.k)).map(({values, tokens}, row) =>
      tokens.map((token, i) => ({
        token,
        probability: Math.exp((values[i]! - sums[2 * row]!) / this.temperature) / sums[2 * row + 1]!,
      })),
    );
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), k: this.k, alpha: this.alpha};
  }
}

/** Rows of length 1. */
const unit = (x: tf.Tensor2D): tf.Tensor2D => tf.div(x, tf.norm(x, 2, -1, true));

/** Of each state (N, D) the largest cosine with the states of its row's past; `counts` of them belong to each. */
async function largestCosines(
  states: tf.Tensor2D,
  past: readonly tf.Tensor2D[],
  counts: readonly number[],
): Promise<ArrayLike<number>> {
  const largest = tf.tidy(() =>
    tf.concat(tf.split(states, [...counts], 0).map((own, i) => tf.max(tf.matMul(own, past[i]!, false, true), 1))),
  );
  const values = await largest.data();
  largest.dispose();
  return values;
}

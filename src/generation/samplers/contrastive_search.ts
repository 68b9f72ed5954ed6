/** The search of `ContrastiveSampler`. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {logWeight} from '../../ops/row_numbers';
import {softmaxSums} from '../../ops/sampling';
import {type Decoder, type DecoderCache} from '../decoder';
import {type Generation, type Step} from '../generation';
import {type TokenLogprobs} from '../logprobs';
import {bestTokens} from './best_tokens';
import {type WithPenalties} from './penalties';

/** The sampler's settings. */
interface ContrastiveSettings {
  readonly k: number;
  readonly alpha: number;
  readonly temperature: number;
}

/** A token to try, and its probability. */
interface Candidate {
  token: number;
  probability: number;
}

/** A row that has not ended. */
interface Place {
  /** Index of the row in the request. */
  row: number;
  /** Its row in the cache. */
  at: number;
}

/** The tokens chosen in one step, and the places of their rows. */
interface Chosen {
  tokens: number[];
  logprobs?: TokenLogprobs[];
  /** Hidden states (places, D) of the tokens. */
  hidden: tf.Tensor2D;
  places: Place[];
}

export class ContrastiveSearch {
  constructor(
    private readonly sampler: ContrastiveSettings,
    private readonly withPenalties: WithPenalties,
  ) {}

  async *steps(generation: Generation): AsyncGenerator<Step, void> {
    const {decoder, rows} = generation;
    const cache = generation.newCache();
    const past = new Past(decoder);
    try {
      // Contrastive search needs the hidden states of all tokens, including those that a session already holds.
      cache.truncate(rows.map(() => 0));
      let places: Place[] = rows.map((_, row) => ({row, at: row}));
      let logits = await generation.readPrompts(cache, {onHidden: (hidden, counts) => past.read(hidden, counts)});
      for (;;) {
        let chosen: Chosen;
        try {
          chosen = await this.pick(generation, {logits, places, cache, past});
        } finally {
          logits.dispose();
        }
        try {
          await generation.turn();
          places = chosen.places;
          const spread = <T>(values: readonly T[]) =>
            rows.map((_, row) => values[places.findIndex(place => place.row === row)] ?? null);
          yield* generation.give({
            tokens: spread(chosen.tokens),
            ...(chosen.logprobs && {logprobs: spread(chosen.logprobs)}),
          });
          if (generation.done) return;
          logits = decoder.logits(chosen.hidden);
        } finally {
          chosen.hidden.dispose();
        }
      }
    } finally {
      past.dispose();
      cache.dispose();
    }
  }

  /**
   * Tries the most probable tokens of each row that is not done, and adds the hidden states of the chosen ones to
   * `past`. The cache then has one row per tried token; the returned places name the rows of the chosen ones.
   */
  private async pick(
    generation: Generation,
    {logits, places, cache, past}: {logits: tf.Tensor2D; places: Place[]; cache: DecoderCache; past: Past},
  ): Promise<Chosen> {
    const {decoder, rows} = generation;
    const texts = places.map(({row}) => rows[row]!);
    const all = await this.withPenalties(logits, texts, penalized => this.candidates(penalized));
    const open = places.flatMap(({row, at}, i) => (rows[row]!.done ? [] : [{row, at, i, candidates: all[i]!}]));
    const tried = open.flatMap(({candidates}) => candidates.map(({token}) => token));
    // One copy of a row for each token to try: all of them continue the same text.
    cache.select(open.flatMap(({at, candidates}) => candidates.map(() => at)));
    const [hidden, states] = tf.tidy(() => {
      const next = decoder.hiddenStates({rows: tried.map(token => [token]), counts: tried.map(() => 1)}, cache);
      const hidden = tf.reshape(next, [tried.length, -1]) as tf.Tensor2D;
      return [hidden, unit(decoder.finalStates(hidden))] as [tf.Tensor2D, tf.Tensor2D];
    });
    try {
      const similarities = await past.similarities(
        states,
        open.map(({row, candidates}) => ({row, count: candidates.length})),
      );
      let end = 0;
      const best = open.map(({candidates}) => {
        const start = end;
        end += candidates.length;
        const scores = candidates.map(
          ({probability}, j) => (1 - this.sampler.alpha) * probability - this.sampler.alpha * similarities[start + j]!,
        );
        if (scores.some(Number.isNaN)) throw unusableStates();
        return start + scores.indexOf(Math.max(...scores));
      });
      const tokens = best.map(at => tried[at]!);
      const logprobs = await generation.logprobs(
        logits,
        open.map(({i}, j) => ({row: i, token: tokens[j]!})),
      );
      best.forEach((at, j) => tf.tidy(() => past.add(open[j]!.row, tf.slice(states, at, 1))));
      return {
        tokens,
        logprobs,
        hidden: tf.tidy(() => tf.gather(hidden, tf.tensor1d(best, 'int32'))),
        places: best.map((at, j) => ({row: open[j]!.row, at})),
      };
    } finally {
      tf.dispose([hidden, states]);
    }
  }

  private async candidates(logits: tf.Tensor2D): Promise<Candidate[][]> {
    const summed = softmaxSums(logits, this.sampler.temperature);
    const sums = await summed.data();
    summed.dispose();
    return (await bestTokens(logits, this.sampler.k)).map(({values, tokens}, row) =>
      tokens.map((token, i) => ({
        token,
        probability: Math.exp(logWeight(values[i]!, sums[2 * row]!, this.sampler.temperature)) / sums[2 * row + 1]!,
      })),
    );
  }
}

/** Scales each row to length 1. A row of zeros is not similar to any other. */
const unit = (x: tf.Tensor2D): tf.Tensor2D => tf.divNoNan(x, tf.norm(x, 2, -1, true));

const unusableStates = () =>
  new ValueError(
    'Expected hidden states to compare. Received: NaN or infinite values. Check the weights of the model: a damaged ' +
      'file or training with too high a learning rate leaves such values.',
  );

/** Hidden states of all tokens of each row so far, (n, D), each of length 1. */
class Past {
  private readonly rows: tf.Tensor2D[] = [];

  constructor(private readonly decoder: Decoder) {}

  read(hidden: tf.Tensor3D, counts: readonly number[]): void {
    tf.tidy(() => {
      const rows = tf.unstack(hidden, 0) as tf.Tensor2D[];
      counts.forEach((count, row) => {
        if (count > 0) this.add(row, unit(this.decoder.finalStates(tf.slice(rows[row]!, 0, count))));
      });
    });
  }

  add(row: number, states: tf.Tensor2D): void {
    const before = this.rows[row];
    this.rows[row] = tf.keep(before ? tf.concat([before, states], 0) : tf.clone(states));
    before?.dispose();
  }

  /** The largest cosine of each state (N, D) with the past of its row. Each row has `count` consecutive states. */
  async similarities(states: tf.Tensor2D, rows: readonly {row: number; count: number}[]): Promise<ArrayLike<number>> {
    const largest = tf.tidy(() => {
      const parts = tf.split(
        states,
        rows.map(({count}) => count),
        0,
      );
      return tf.concat(parts.map((own, i) => tf.max(tf.matMul(own, this.rows[rows[i]!.row]!, false, true), 1)));
    });
    const values = await largest.data();
    largest.dispose();
    return values;
  }

  dispose(): void {
    tf.dispose(this.rows);
  }
}

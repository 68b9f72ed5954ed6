/** The decoding of `SpeculativeSampler`. */
import * as tf from '@tensorflow/tfjs';
import {type Decoder, type DecoderCache} from '../decoder';
import {type Generation, type Step} from '../generation';
import {DraftedByModel, type DraftModel} from './drafted_by_model';
import {PromptLookup} from './prompt_lookup';
import {type Sampler} from './sampler';

/** The sampler's settings. */
interface SpeculativeSettings {
  readonly numSpeculativeTokens: number;
  readonly draft: DraftModel | null;
  readonly lookup: readonly [longest: number, shortest: number];
}

/** Guesses the next tokens. */
interface Drafter {
  /** Up to `counts[row]` tokens after each row; none where the count is 0. */
  draft(counts: readonly number[]): Promise<number[][]>;
  /** @throws ValueError if the guesses may come from another vocabulary than the logits (N, V) of the model. */
  check(logits: tf.Tensor2D): void;
  dispose(): void;
}

export class SpeculativeDecoding {
  constructor(
    private readonly sampler: SpeculativeSettings,
    private readonly base: Sampler,
  ) {}

  async *steps(generation: Generation): AsyncGenerator<Step, void> {
    const {decoder, rows} = generation;
    const cache = generation.newCache(this.sampler.numSpeculativeTokens);
    let drafter: Drafter | undefined;
    try {
      drafter = this.sampler.draft
        ? await DraftedByModel.read(generation, this.sampler.draft, this.sampler.numSpeculativeTokens)
        : new PromptLookup(rows, this.sampler.lookup);
      let guesses: number[][] = rows.map(() => []);
      let logits = await generation.readPrompts(cache);
      for (;;) {
        let steps: Step[];
        try {
          drafter.check(logits);
          steps = await this.accepted(generation, logits, guesses);
        } finally {
          logits.dispose();
        }
        await generation.turn();
        for (const step of steps) yield* generation.give(step);
        if (generation.done) return;
        // Keeps all tokens of a row except the last, which the model has not read yet.
        cache.truncate(rows.map(({done, tokens}, row) => (done ? cache.lengths[row]! : tokens.length - 1)));
        // A pass adds one more token than was guessed.
        guesses = await drafter.draft(
          rows.map(({done, tokens, maxLength}) =>
            done ? 0 : Math.min(this.sampler.numSpeculativeTokens, maxLength - tokens.length - 1),
          ),
        );
        const read = rows.map(({done, tokens}, row) => (done ? [] : [tokens.at(-1)!, ...guesses[row]!]));
        logits = logitsOfAll(decoder, read, cache);
      }
    } finally {
      drafter?.dispose();
      cache.dispose();
    }
  }

  /**
   * The tokens that each row gets: its guesses as long as the base sampler chooses the same tokens, then one more token
   * that the base sampler chooses.
   *
   * @param logits (N, V): for each row those after its last token and after each guess; in the first pass, one per row.
   */
  private async accepted(generation: Generation, logits: tf.Tensor2D, guesses: readonly number[][]): Promise<Step[]> {
    const {rows, request} = generation;
    // The first logits include those of rows that are already full.
    const first = logits.shape[0] === rows.length && guesses.every(({length}) => length === 0);
    const places = rows.flatMap((row, i) => {
      if (row.done && !first) return [];
      return Array.from({length: guesses[i]!.length + 1}, (_, guessed) => ({row: i, guessed}));
    });
    const texts = places.map(({row, guessed}) => {
      const {tokens, promptLength} = rows[row]!;
      return guessed ? {tokens: [...tokens, ...guesses[row]!.slice(0, guessed)], promptLength} : rows[row]!;
    });
    const tokens = await this.base.sample(logits, texts);
    const given: {place: number; token: number}[][] = rows.map(() => []);
    places.forEach(({row, guessed}, place) => {
      const added = given[row]!;
      const continues = added.length === guessed && added.every(({token}, i) => token === guesses[row]![i]);
      const ended = added.some(({token}, i) => generation.endsWith(token, rows[row]!.tokens.length + i + 1, row));
      if (continues && !ended && !rows[row]!.done) added.push({place, token: tokens[place]!});
    });
    const logprobs = await generation.logprobs(
      logits,
      given.flat().map(({place, token}) => ({row: place, token})),
    );
    const logprobOf = new Map(given.flat().map(({place}, i) => [place, logprobs?.[i]]));
    return Array.from({length: Math.max(...given.map(({length}) => length))}, (_, t) => ({
      tokens: given.map(row => row[t]?.token ?? null),
      ...(request.logprobs !== undefined && {
        logprobs: given.map(row => (row[t] ? logprobOf.get(row[t].place)! : null)),
      }),
    }));
  }
}

/**
 * Adds rows of any lengths to the cache → logits (N, V) after every token: those of the first row, then the second, and
 * so on.
 */
function logitsOfAll(decoder: Decoder, rows: readonly number[][], cache: DecoderCache): tf.Tensor2D {
  return tf.tidy(() => {
    const length = Math.max(...rows.map(({length}) => length));
    const padded = rows.map(row => [...row, ...Array<number>(length - row.length).fill(0)]);
    const hidden = decoder.hiddenStates({rows: padded, counts: rows.map(({length}) => length)}, cache);
    const flat = tf.reshape(hidden, [rows.length * length, -1]) as tf.Tensor2D;
    const real = rows.flatMap((row, i) => row.map((_, t) => i * length + t));
    return decoder.logits(real.length === flat.shape[0] ? flat : tf.gather(flat, tf.tensor1d(real, 'int32')));
  });
}

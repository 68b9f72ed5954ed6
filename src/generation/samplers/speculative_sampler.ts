/** Speculative decoding: guesses several tokens and checks them in one pass of the model. */
import * as tf from '@tensorflow/tfjs';
import {describeValue, show, ValueError} from '../../base/errors';
import {type Decoder, type DecoderCache} from '../decoder';
import {type Generation, type Step} from '../generation';
import {DraftedByModel, type DraftModel} from './drafted_by_model';
import {GreedySampler} from './greedy_sampler';
import {PromptLookup} from './prompt_lookup';
import {checkedSamplerArgs, Sampler} from './sampler';

/** Arguments of {@link SpeculativeSampler}. */
export interface SpeculativeSamplerArgs {
  /** Largest number of tokens to guess at a time. Defaults to 5. */
  numSpeculativeTokens?: number;
  /** Chooses tokens from the model's logits. Null, the default: always the most probable token. */
  baseSampler?: Sampler | null;
  /**
   * A smaller model with the same vocabulary that guesses the tokens. The caller disposes it. Null, the default: the
   * guesses are the tokens that followed an earlier occurrence of the last tokens in the text.
   */
  draft?: DraftModel | null;
  /** Without a draft: how many of the last tokens to search for, at most and at least. Defaults to [3, 2]. */
  lookup?: readonly [longest: number, shortest: number];
}

/** Guesses the next tokens. */
interface Drafter {
  /** Up to `counts[row]` tokens after each row; none where the count is 0. */
  draft(counts: readonly number[]): Promise<number[][]>;
  /** @throws ValueError if the guesses may come from another vocabulary than the logits (N, V) of the model. */
  check(logits: tf.Tensor2D): void;
  dispose(): void;
}

/**
 * Speculative decoding, as `keras_hub.samplers.SpeculativeSampler`; Leviathan et al., https://arxiv.org/abs/2211.17192:
 * several tokens are guessed, and the model checks all of them in one pass. This pays off if guesses are often right
 * and a pass over a few tokens costs little more than a pass over one: measure it with bench/speculative.mjs.
 *
 * The text is the one that `baseSampler` would produce on its own or, if it draws at random, has the same distribution.
 * A guess is a single token x, so q(x) = 1 in the paper: x is accepted with probability p(x); otherwise a token is
 * drawn from p without x. Drawing from p, and accepting the guess if it was drawn, does both at once.
 *
 * @throws ValueError on unknown, unusable or contradictory arguments.
 */
export class SpeculativeSampler extends Sampler {
  readonly numSpeculativeTokens: number;
  readonly baseSampler: Sampler | null;
  readonly draft: DraftModel | null;
  readonly lookup: readonly [longest: number, shortest: number];
  private readonly base: Sampler;

  constructor(args: SpeculativeSamplerArgs = {}) {
    const known = ['numSpeculativeTokens', 'baseSampler', 'draft', 'lookup'];
    const {numSpeculativeTokens = 5, baseSampler = null, draft = null, lookup = [3, 2]} = args;
    checkedSamplerArgs('SpeculativeSampler', args, known);
    super({temperature: baseSampler?.temperature});
    if (!Number.isInteger(numSpeculativeTokens) || numSpeculativeTokens < 1) {
      throw new ValueError(
        'SpeculativeSampler expected numSpeculativeTokens to be a positive integer. ' +
          `Received: numSpeculativeTokens=${show(numSpeculativeTokens)}.`,
      );
    }
    if (baseSampler !== null && !(baseSampler instanceof Sampler && baseSampler.steps === Sampler.prototype.steps)) {
      throw new ValueError(
        'SpeculativeSampler expected baseSampler to be null or a sampler that chooses token by token, such as ' +
          `new samplers.TopKSampler(). Received: ${describeValue(baseSampler)}.`,
      );
    }
    const fits = Array.isArray(lookup) && lookup.length === 2 && lookup.every(Number.isInteger);
    if (!(fits && lookup[1] >= 1 && lookup[0] >= lookup[1])) {
      throw new ValueError(
        `SpeculativeSampler expected lookup to be [longest, shortest], positive integers. Received: ${show(lookup)}.`,
      );
    }
    if (draft && args.lookup) {
      throw new ValueError(
        'SpeculativeSampler expected either `draft` or `lookup`: with a draft, nothing is looked up. Received: both.',
      );
    }
    this.numSpeculativeTokens = numSpeculativeTokens;
    this.baseSampler = baseSampler;
    this.draft = draft;
    this.lookup = lookup;
    this.base = baseSampler ?? new GreedySampler();
  }

  override getNextToken(probabilities: Float32Array): number {
    return this.base.getNextToken(probabilities);
  }

  override async *steps(generation: Generation): AsyncGenerator<Step, void> {
    const {decoder, rows, request} = generation;
    const cache = generation.newCache(this.numSpeculativeTokens);
    let drafter: Drafter | undefined;
    try {
      drafter = this.draft
        ? await DraftedByModel.read(generation, this.draft, this.numSpeculativeTokens)
        : new PromptLookup(rows, this.lookup);
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
          rows.map(({done, tokens}) =>
            done ? 0 : Math.min(this.numSpeculativeTokens, request.maxLength - tokens.length - 1),
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
      const ended = added.some(({token}, i) => generation.endsWith(token, rows[row]!.tokens.length + i + 1));
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

  override getConfig(): Record<string, unknown> {
    const {numSpeculativeTokens, baseSampler, draft, lookup} = this;
    return {
      ...super.getConfig(),
      numSpeculativeTokens,
      baseSampler: baseSampler && {className: baseSampler.constructor.name, config: baseSampler.getConfig()},
      ...(!draft && {lookup: [...lookup]}),
    };
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

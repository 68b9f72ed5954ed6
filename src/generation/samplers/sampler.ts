/** How the next token is chosen from the model's logits: the base classes of all samplers. */
import type * as tf from '@tensorflow/tfjs';
import alea from 'seedrandom/lib/alea.js';
import {checkKeys, show, ValueError} from '../../base/errors';
import {draw, largestOf, softmax} from '../../ops/row_numbers';
import {type TokenChoice} from '../../ops/token_program';
import {aheadSteps, type Draws, slackFor} from '../ahead';
import {type DecoderCache, nextLogits, type RowText, type StepsAhead} from '../decoder';
import {type Generation, type Step} from '../generation';
import {LiveRows} from '../live_rows';
import {checkTokens, unusableLogits} from './checked_tokens';
import {hasPenalties, penalize, penaltiesInFloat32, type Penalties} from './penalties';

/** Arguments of all samplers. */
export interface SamplerArgs extends Partial<Penalties> {
  /** Logits are divided by this: values below 1 make the choice less random, values above 1 more. Defaults to 1. */
  temperature?: number;
}

/** How tokens are chosen on a device, and the random numbers for it. */
export interface ChoiceOnDevice {
  draw: TokenChoice['draw'];
  draws?: Draws;
}

/** Names of the arguments of all samplers. */
export const SAMPLER_KEYS = ['temperature', 'repetitionPenalty', 'presencePenalty', 'frequencyPenalty'] as const;

/**
 * Base class of all samplers, as `keras_hub.samplers.Sampler`. Subclasses choose from one row of probabilities:
 *
 * ```ts
 * class WithoutToken extends Sampler {
 *   override getNextToken(probabilities: Float32Array) {
 *     probabilities[257] = 0;
 *     return probabilities.indexOf(Math.max(...probabilities));
 *   }
 * }
 * lm.compile({sampler: new WithoutToken()});
 * ```
 *
 * @throws ValueError on unusable arguments.
 */
export abstract class Sampler {
  readonly temperature: number;
  readonly penalties: Penalties;

  constructor({temperature = 1, ...penalties}: SamplerArgs = {}) {
    if (!(temperature > 0) || !Number.isFinite(temperature)) {
      throw new ValueError(
        `Expected temperature to be above 0. Received: temperature=${show(temperature)}. ` +
          'For the most probable token each time, use the sampler "greedy".',
      );
    }
    const {repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0} = penalties;
    if (!(repetitionPenalty > 0) || !Number.isFinite(repetitionPenalty)) {
      throw new ValueError(
        `Expected repetitionPenalty to be above 0. Received: repetitionPenalty=${show(repetitionPenalty)}. ` +
          'For no penalty, leave it out or pass 1.',
      );
    }
    for (const [name, value] of Object.entries({presencePenalty, frequencyPenalty})) {
      if (!Number.isFinite(value)) {
        throw new ValueError(`Expected ${name} to be a number. Received: ${name}=${show(value)}. Pass 0 for none.`);
      }
    }
    this.temperature = temperature;
    this.penalties = {repetitionPenalty, presencePenalty, frequencyPenalty};
  }

  /**
   * Runs a generation and yields the tokens that each step adds to the rows: here one token per row and step. A sampler
   * that looks further ahead overrides this. Steps must be yielded through `generation.give`, which extends the rows.
   */
  async *steps(generation: Generation): AsyncGenerator<Step, void> {
    const {decoder, rows} = generation;
    let ahead = this.stepsAhead(generation);
    let open: DecoderCache | undefined;
    try {
      const cache = (open = generation.newCache(ahead && slackFor(ahead)));
      const live = new LiveRows(rows, cache, !ahead && this.choosesAlone);
      let logits = await generation.readPrompts(cache);
      for (;;) {
        let tokens: number[];
        let logprobs: Step['logprobs'];
        try {
          tokens = await this.sample(logits, live.rows);
          logprobs = await generation.logprobs(
            logits,
            tokens.map((token, row) => ({row, token})),
          );
        } finally {
          logits.dispose();
        }
        await generation.turn();
        yield* generation.give({
          tokens: live.spread(tokens),
          ...(logprobs && {logprobs: live.spread(logprobs)}),
        });
        if (generation.done) return;
        if (ahead) {
          yield* aheadSteps(generation, ahead, cache, this.onDevice()?.draws);
          if (generation.done) return;
          // A token that the host has to choose.
          ahead = this.stepsAhead(generation);
        }
        logits = nextLogits(decoder, live.next(), cache);
      }
    } finally {
      ahead?.dispose();
      open?.dispose();
    }
  }

  /**
   * How a backend can choose tokens as this sampler does; undefined, for example for subclasses, if it cannot.
   *
   * @internal
   */
  onDevice(): ChoiceOnDevice | undefined {
    return undefined;
  }

  /**
   * Whether the choice for a row depends on nothing but its own logits and tokens. Rows that have ended are then left
   * out; otherwise they stay, so that the draws of the others remain the same.
   *
   * @internal
   */
  get choosesAlone(): boolean {
    return false;
  }

  /** Steps ahead of what the host has read, if the model can run them and choose tokens as this sampler does. */
  private stepsAhead({decoder, request, rows}: Generation): StepsAhead | undefined {
    const choice = this.onDevice();
    if (!choice || request.logprobs !== undefined) return undefined;
    return decoder.tokensAhead?.({draw: choice.draw, penalties: penaltiesInFloat32(this.penalties)}, rows.length);
  }

  /**
   * The next token of each row.
   *
   * @param logits (B, V); the caller disposes them.
   * @param rows the tokens of each row so far; needed only for penalties.
   * @throws ValueError with penalties but without rows, for logits that have a NaN or no value above −Infinity, and if
   * a subclass chooses a token that does not exist.
   */
  async sample(logits: tf.Tensor2D, rows?: readonly RowText[]): Promise<number[]> {
    const tokens = await this.withPenalties(logits, rows, penalized => this.choose(penalized));
    checkTokens(tokens, logits.shape[0], logits.shape[1], this);
    return tokens;
  }

  /** Calls `run` with the logits after penalties. */
  protected async withPenalties<T>(
    logits: tf.Tensor2D,
    rows: readonly RowText[] | undefined,
    run: (logits: tf.Tensor2D) => Promise<T>,
  ): Promise<T> {
    if (!hasPenalties(this.penalties)) return run(logits);
    if (rows?.length !== logits.shape[0]) {
      throw new ValueError(
        `Expected the tokens so far of each of ${logits.shape[0]} rows, for penalties. ` +
          `Received: ${rows?.length ?? 'no'} rows. ` +
          'Pass {tokens, promptLength} of each row to `sample`.',
      );
    }
    const penalized = penalize(logits, rows, this.penalties);
    try {
      return await run(penalized);
    } finally {
      penalized.dispose();
    }
  }

  /** Chooses one token per row of logits (B, V); penalties were applied before. Reads all logits from the backend. */
  async choose(logits: tf.Tensor2D): Promise<number[]> {
    const [rows, size] = logits.shape;
    const values = (await logits.data()) as Float32Array;
    const all = Array.from({length: rows}, (_, row) => values.subarray(row * size, (row + 1) * size));
    if (!all.every(row => largestOf(row) > -Infinity)) throw await unusableLogits(logits);
    return all.map(row => this.getNextToken(this.probabilities(row)));
  }

  protected probabilities(logits: Float32Array): Float32Array {
    return softmax(logits, this.temperature);
  }

  /**
   * True if a subclass has overridden `getNextToken`, which takes all probabilities. The package's own samplers read
   * fewer.
   *
   * @param known `getNextToken` of the calling class.
   */
  protected choosesOtherwise(known: Sampler['getNextToken']): boolean {
    return this.getNextToken !== known;
  }

  /** Chooses one token, given the probabilities (V) of all tokens. It may change the array. */
  abstract getNextToken(probabilities: Float32Array): number;

  /**
   * The configuration as in KerasHub. Arguments that KerasHub does not have are included only if they differ from their
   * defaults.
   */
  getConfig(): Record<string, unknown> {
    const {repetitionPenalty, presencePenalty, frequencyPenalty} = this.penalties;
    return {
      temperature: this.temperature,
      ...(repetitionPenalty !== 1 && {repetitionPenalty}),
      ...(presencePenalty !== 0 && {presencePenalty}),
      ...(frequencyPenalty !== 0 && {frequencyPenalty}),
    };
  }
}

/** Arguments of all samplers that draw at random. */
export interface SeededArgs extends SamplerArgs {
  /** Makes the draws repeatable: samplers with the same seed draw the same tokens. Null, the default: random draws. */
  seed?: number | null;
  /**
   * Smallest probability of tokens that may be drawn, as a fraction of the largest probability; Nguyen et al.,
   * https://arxiv.org/abs/2407.01082. From 0, the default, to 1.
   */
  minP?: number;
}

/** Names of the arguments of all samplers that draw at random. */
export const SEEDED_KEYS = [...SAMPLER_KEYS, 'seed', 'minP'] as const;

/** A sampler that draws at random. Its state continues from call to call, like a Keras seed generator. */
export abstract class RandomizedSampler extends Sampler {
  readonly seed: number | null;
  readonly minP: number;
  protected readonly random: () => number;
  /** Random numbers that were drawn ahead and not used; the next one is last. */
  private readonly returned: number[] = [];

  constructor({seed = null, minP = 0, ...args}: SeededArgs = {}) {
    super(args);
    if (seed !== null && !Number.isSafeInteger(seed)) {
      throw new ValueError(`Expected seed to be an integer. Received: seed=${show(seed)}.`);
    }
    if (!(typeof minP === 'number' && minP >= 0 && minP <= 1)) {
      throw new ValueError(`Expected minP from 0 to 1. Received: minP=${show(minP)}. Pass 0 to leave out no token.`);
    }
    this.seed = seed;
    this.minP = minP;
    const source = seed === null ? Math.random : alea(String(seed));
    this.random = () => this.returned.pop() ?? source();
  }

  /**
   * For `onDevice`: the draw, with random numbers of this sampler.
   *
   * @internal
   */
  protected drawing(from: {topK?: number | null; topP?: number}): ChoiceOnDevice {
    const {temperature, minP, returned} = this;
    const draws = {
      next: this.random,
      putBack: (unused: readonly number[]) => void returned.push(...[...unused].reverse()),
    };
    return {draw: {temperature, minP, topK: from.topK ?? null, topP: from.topP ?? null}, draws};
  }

  /**
   * Draws an index with the given weights.
   *
   * @throws ValueError if no weight is above 0, or if one is NaN.
   */
  protected drawFrom(weights: ArrayLike<number>): number {
    const drawn = draw(weights, this.random);
    if (drawn < 0) throw noProbability(weights);
    return drawn;
  }

  /** Sets weights below `minP` times the largest one to 0. */
  protected admit<W extends number[] | Float32Array>(weights: W, largest: number): W {
    if (this.minP === 0) return weights;
    return weights.map(weight => (weight < this.minP * largest ? 0 : weight)) as W;
  }

  protected override probabilities(logits: Float32Array): Float32Array {
    const all = super.probabilities(logits);
    return this.minP === 0
      ? all
      : this.admit(
          all,
          all.reduce((a, b) => Math.max(a, b)),
        );
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), seed: this.seed, ...(this.minP !== 0 && {minP: this.minP})};
  }
}

const noProbability = (weights: ArrayLike<number>) =>
  new ValueError(
    'Expected probabilities of tokens, at least one of them above 0. Received: ' +
      `${Number.isNaN(largestOf(weights)) ? 'NaN' : 'none above 0'}.`,
  );

/**
 * The largest of the probabilities that a user passes to `getNextToken`.
 *
 * @throws ValueError if none is above 0, or if one is NaN.
 */
export function checkedLargest(probabilities: Float32Array): number {
  const largest = largestOf(probabilities);
  if (largest > 0) return largest;
  throw noProbability(probabilities);
}

/** @throws ValueError on unknown arguments. */
export function checkedSamplerArgs<A extends object>(owner: string, args: A, known: readonly string[]): A {
  checkKeys(owner, args, known);
  return args;
}

/** How the next token is chosen from the model's logits. */
import type * as tf from '@tensorflow/tfjs';
import seedrandom from 'seedrandom';
import {checkKeys, show, ValueError} from '../../errors';
import {softmax} from '../../ops/row_numbers';

export interface SamplerArgs {
  /** Logits are divided by this: below 1 is less random, above 1 more. Defaults to 1. */
  temperature?: number;
}

/**
 * Base of all samplers, as `keras_hub.samplers.Sampler`. Subclasses choose from one row of probabilities:
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
 */
export abstract class Sampler {
  readonly temperature: number;

  constructor({temperature = 1}: SamplerArgs = {}) {
    if (!(temperature > 0) || !Number.isFinite(temperature)) {
      throw new ValueError(
        `Expected temperature to be above 0. Received: temperature=${show(temperature)}. ` +
          'For the most probable token each time, use the sampler "greedy".',
      );
    }
    this.temperature = temperature;
  }

  /**
   * The next token of each row.
   *
   * @param logits (B, V); not disposed.
   */
  async sample(logits: tf.Tensor2D): Promise<number[]> {
    const [rows, size] = logits.shape;
    const values = (await logits.data()) as Float32Array;
    return Array.from({length: rows}, (_, row) =>
      this.getNextToken(softmax(values.subarray(row * size, (row + 1) * size), this.temperature)),
    );
  }

  /**
   * True if a subclass of a sampler of ours chooses in its own way: it is then given all probabilities. Ours read less.
   *
   * @param known `getNextToken` of the class that asks.
   */
  protected choosesOtherwise(known: Sampler['getNextToken']): boolean {
    return this.getNextToken !== known;
  }

  /** One token, from the probabilities (V) of all; the array may be changed. */
  abstract getNextToken(probabilities: Float32Array): number;

  getConfig(): Record<string, unknown> {
    return {temperature: this.temperature};
  }
}

export interface SeededArgs extends SamplerArgs {
  /** Makes the draws repeatable: samplers made with one seed draw alike. Defaults to a random seed. */
  seed?: number | null;
}

/** A sampler that draws; its state goes on from call to call, as that of a Keras seed generator. */
export abstract class RandomizedSampler extends Sampler {
  readonly seed: number | null;
  protected readonly random: () => number;

  constructor({seed = null, ...args}: SeededArgs = {}) {
    super(args);
    if (seed !== null && !Number.isInteger(seed)) {
      throw new ValueError(`Expected seed to be an integer. Received: seed=${show(seed)}.`);
    }
    this.seed = seed;
    this.random = seed === null ? Math.random : seedrandom.alea(String(seed));
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), seed: this.seed};
  }
}

/** Refuses arguments that a sampler does not read. */
export function checkedSamplerArgs<A extends object>(owner: string, args: A, known: readonly string[]): A {
  checkKeys(owner, args, known);
  return args;
}

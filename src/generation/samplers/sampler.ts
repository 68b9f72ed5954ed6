/** How the next token is chosen from the model's logits. */
import type * as tf from '@tensorflow/tfjs';
import seedrandom from 'seedrandom';
import {checkKeys, show, ValueError} from '../../errors';

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

  /** One token, from the probabilities (V) of all; the array may be changed. */
  abstract getNextToken(probabilities: Float32Array): number;

  getConfig(): Record<string, unknown> {
    return {temperature: this.temperature};
  }
}

/** Probabilities of one row of logits. Summed in double precision. */
export function softmax(logits: Float32Array, temperature: number): Float32Array {
  let max = -Infinity;
  for (const value of logits) if (value > max) max = value;
  const probabilities = new Float32Array(logits.length);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) sum += probabilities[i] = Math.exp((logits[i]! - max) / temperature);
  for (let i = 0; i < logits.length; i++) probabilities[i]! /= sum;
  return probabilities;
}

/** Draws an index with the given weights, which need not sum to one. */
export function draw(weights: ArrayLike<number>, random: () => number): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]!;
  let rest = random() * sum;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! <= 0) continue;
    last = i;
    rest -= weights[i]!;
    if (rest < 0) break;
  }
  return last;
}

/**
 * Indices of the `count` largest values, largest first and lower index first among equals. One pass over the values
 * with a heap of `count`.
 */
export function topIndices(values: Float32Array, count: number): number[] {
  const better = (a: number, b: number) => values[a]! > values[b]! || (values[a] === values[b] && a < b);
  const heap: number[] = []; // the worst kept index on top
  const sink = (at: number) => {
    for (;;) {
      let worst = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && better(heap[worst]!, heap[child]!)) worst = child;
      }
      if (worst === at) return;
      [heap[at], heap[worst]] = [heap[worst]!, heap[at]!];
      at = worst;
    }
  };
  for (let i = 0; i < values.length; i++) {
    if (heap.length < count) {
      heap.push(i);
      if (heap.length === count) for (let at = (count >> 1) - 1; at >= 0; at--) sink(at);
    } else if (values[i]! > values[heap[0]!]!) {
      heap[0] = i;
      sink(0);
    }
  }
  return heap.sort((a, b) => values[b]! - values[a]! || a - b);
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

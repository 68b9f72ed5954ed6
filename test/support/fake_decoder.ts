/** A decoder whose logits depend only on the text so far, so samplers can be compared with all possible texts. */
import * as tf from '@tensorflow/tfjs';
import seedrandom from 'seedrandom';
import {type Decoder, type DecoderCache, type NewTokens} from '../../src/generation/decoder';

export interface FakeCache extends DecoderCache {
  rows: number[][];
  disposed: boolean;
}

export interface FakeDecoderOptions {
  /** Seed of random logits and states; 1 by default. */
  seed?: number;
  /** Width of final states; 3 by default. */
  width?: number;
  /** Random logits lie between −spread and spread; 4 by default. */
  spread?: number;
}

export class FakeDecoder implements Decoder<FakeCache> {
  /** Arguments of each forward pass. */
  readonly calls: NewTokens[] = [];
  /** All caches ever created, including copies. */
  readonly caches: FakeCache[] = [];
  readonly seed: number;
  readonly width: number;
  readonly spread: number;
  private readonly texts: number[][] = [];

  constructor(
    readonly vocabulary: number,
    {seed = 1, width = 3, spread = 4}: FakeDecoderOptions = {},
  ) {
    this.seed = seed;
    this.width = width;
    this.spread = spread;
  }

  /** Number of real tokens in each pass. */
  get passes(): number[] {
    return this.calls.map(({counts}) => counts.reduce((a, b) => a + b, 0));
  }
  /** Number of caches that are not disposed. */
  get open(): number {
    return this.caches.filter(({disposed}) => !disposed).length;
  }

  private randomNumbers(kind: string, text: readonly number[], count: number): number[] {
    const random = seedrandom.alea(`${this.seed} ${kind} ${text.join()}`);
    return Array.from({length: count}, () => Math.fround(2 * random() - 1));
  }
  logitsOf(text: readonly number[]): number[] {
    return this.randomNumbers('logits', text, this.vocabulary).map(x => Math.fround(x * this.spread));
  }
  stateOf(text: readonly number[]): number[] {
    return this.randomNumbers('state', text, this.width);
  }
  logProbsOf(text: readonly number[], temperature = 1): number[] {
    const logits = this.logitsOf(text).map(x => x / temperature);
    const sum = logits.reduce((sum, x) => sum + Math.exp(x), 0);
    return logits.map(x => x - Math.log(sum));
  }

  newCache(batch: number): FakeCache {
    return this.cacheOf(Array.from({length: batch}, () => []));
  }
  private cacheOf(rows: number[][]): FakeCache {
    const cache: FakeCache = {
      rows,
      disposed: false,
      get lengths() {
        return cache.rows.map(row => row.length);
      },
      canTruncate: () => true,
      truncate: lengths => lengths.forEach((length, row) => cache.rows[row]!.splice(length)),
      select: indices => (cache.rows = indices.map(row => [...cache.rows[row]!])),
      copy: () => this.cacheOf(cache.rows.map(row => [...row])),
      dispose: () => (cache.disposed = true),
    };
    this.caches.push(cache);
    return cache;
  }
  encodeImages(images: tf.Tensor4D): tf.Tensor2D {
    return tf.reshape(images, [-1, 1]);
  }
  /** A hidden state is a number: the index of its text among all texts so far. */
  hiddenStates(tokens: NewTokens, cache: FakeCache): tf.Tensor3D {
    const {rows, counts} = tokens;
    if (rows.length !== cache.rows.length) throw new Error(`${rows.length} rows for ${cache.rows.length}`);
    this.calls.push(tokens);
    const indices = rows.map((row, i) =>
      row.map((token, t) => {
        if (t < counts[i]!) cache.rows[i]!.push(token);
        return [this.texts.push([...cache.rows[i]!]) - 1];
      }),
    );
    return tf.tensor3d(indices);
  }
  private textsOf(hidden: tf.Tensor2D): number[][] {
    return [...hidden.dataSync()].map(index => this.texts[index]!);
  }
  logits(hidden: tf.Tensor2D): tf.Tensor2D {
    return tf.tensor2d(this.textsOf(hidden).map(text => this.logitsOf(text)));
  }
  finalStates(hidden: tf.Tensor2D): tf.Tensor2D {
    return tf.tensor2d(this.textsOf(hidden).map(text => this.stateOf(text)));
  }
}

/** A model that answers each text with numbers of its own: what samplers find can be compared with all there is. */
import * as tf from '@tensorflow/tfjs';
import seedrandom from 'seedrandom';
import {type Decoder, type DecoderCache, type NewTokens} from '../../src/generation/decoder';

interface InventedCache extends DecoderCache {
  rows: number[][];
}

export class InventedDecoder implements Decoder<InventedCache> {
  /** Tokens of each pass that are real. */
  readonly passes: number[] = [];
  open = 0;
  private readonly texts: number[][] = [];

  /** @param width of hidden states; @param spread of logits */
  constructor(
    readonly vocabulary: number,
    readonly seed = 1,
    readonly width = 3,
    readonly spread = 4,
  ) {}

  private numbers(kind: string, text: readonly number[], count: number): number[] {
    const random = seedrandom.alea(`${this.seed} ${kind} ${text.join()}`);
    return Array.from({length: count}, () => Math.fround(2 * random() - 1));
  }
  logitsOf(text: readonly number[]): number[] {
    return this.numbers('logits', text, this.vocabulary).map(x => Math.fround(x * this.spread));
  }
  stateOf(text: readonly number[]): number[] {
    return this.numbers('state', text, this.width);
  }
  logProbsOf(text: readonly number[], temperature = 1): number[] {
    const logits = this.logitsOf(text).map(x => x / temperature);
    const sum = logits.reduce((sum, x) => sum + Math.exp(x), 0);
    return logits.map(x => x - Math.log(sum));
  }

  newCache(batch: number): InventedCache {
    this.open += 1;
    const cache: InventedCache = {
      rows: Array.from({length: batch}, () => []),
      get lengths() {
        return this.rows.map(row => row.length);
      },
      canTruncate: () => true,
      truncate: lengths => lengths.forEach((length, row) => cache.rows[row]!.splice(length)),
      select: rows => (cache.rows = rows.map(row => [...cache.rows[row]!])),
      copy: () => ({...cache, rows: cache.rows.map(row => [...row])}),
      dispose: () => (this.open -= 1),
    };
    return cache;
  }
  encodeImages(images: tf.Tensor4D): tf.Tensor2D {
    return tf.reshape(images, [-1, 1]);
  }
  /** Hidden states are numbers of texts. */
  hiddenStates({rows, counts}: NewTokens, cache: InventedCache): tf.Tensor3D {
    if (rows.length !== cache.rows.length) throw new Error(`${rows.length} rows for ${cache.rows.length}`);
    this.passes.push(counts.reduce((a, b) => a + b, 0));
    const numbers = rows.map((row, i) =>
      row.map((token, t) => {
        if (t < counts[i]!) cache.rows[i]!.push(token);
        return [this.texts.push([...cache.rows[i]!]) - 1];
      }),
    );
    return tf.tensor3d(numbers);
  }
  private textsOf(hidden: tf.Tensor2D): number[][] {
    return [...hidden.dataSync()].map(number => this.texts[number]!);
  }
  logits(hidden: tf.Tensor2D): tf.Tensor2D {
    return tf.tensor2d(this.textsOf(hidden).map(text => this.logitsOf(text)));
  }
  finalStates(hidden: tf.Tensor2D): tf.Tensor2D {
    return tf.tensor2d(this.textsOf(hidden).map(text => this.stateOf(text)));
  }
}

/** The base class of text embedders: one vector per text, computed in batches with little padding. */
import * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform/turn';
import {checkArgument} from '../base/checks';
import {checkKeys, show, ValueError} from '../base/errors';
import {type ModelInputs} from '../layers/named_inputs';
import {Task} from './task';

/** A preprocessor as `encodeText` sees it. */
export interface EmbedderPreprocessor {
  readonly tokenizer: {readonly padTokenId: number};
  /** Token ids of a text as the model takes them, without padding. */
  packedTokens(segments: readonly string[]): number[];
}

/** Options of {@link TextEmbedder.encodeText}. */
export interface EncodeOptions {
  /** Largest number of texts that go through the model at once. Defaults to 32. */
  batchSize?: number;
  /** Stops encoding: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** Arguments of {@link TextEmbedder.compile}. */
export interface TextEmbedderCompileArgs extends Partial<tf.ModelCompileArgs> {
  /** "auto", the default: Adam with a learning rate of 5e-5. */
  optimizer?: tf.ModelCompileArgs['optimizer'];
  /** Required: a loss of tfjs by name, or a function. */
  loss: tf.ModelCompileArgs['loss'];
}

/** One vector per row: a tensor (N, D), or N arrays of D numbers. */
export type Embeddings = tf.Tensor2D | readonly (readonly number[])[];

/** A backbone whose hidden states become one vector per text. As `keras_hub.models.TextEmbedder`. */
export abstract class TextEmbedder extends Task {
  abstract override preprocessor: EmbedderPreprocessor | null;

  /** Inputs of the model for token ids and their padding mask, both (B, T). The caller disposes them. */
  protected abstract textInputs(tokenIds: tf.Tensor2D, paddingMask: tf.Tensor2D): Record<string, tf.Tensor>;

  /**
   * Sets optimizer, loss and metrics for `fit`. There is no default loss: none suits all training of embedders.
   *
   * @throws ValueError on unknown arguments; errors of tfjs on unusable ones.
   */
  override compile(args: TextEmbedderCompileArgs): void {
    checkKeys('compile', args, ['optimizer', 'loss', 'metrics']);
    const {optimizer = 'auto'} = args;
    super.compile({...args, optimizer: optimizer === 'auto' ? tf.train.adam(5e-5) : optimizer});
  }

  /**
   * Embeddings of one text or several, (number of texts, embedding size), in the order of the texts. Texts of similar
   * length go through the model together, so batches have little padding. Memory holds one batch and the result.
   *
   * @throws ValueError without a preprocessor, and on unusable texts or options; the signal's reason when aborted. Only
   * the returned tensor stays in memory.
   */
  async encodeText(text: string | readonly string[], options: EncodeOptions = {}): Promise<tf.Tensor2D> {
    checkKeys('encodeText', options, ['batchSize', 'signal']);
    const {batchSize = 32, signal} = options;
    checkArgument('encodeText', 'batchSize', batchSize, 'size');
    const {preprocessor} = this;
    if (!preprocessor) {
      throw new ValueError(
        'A `preprocessor` must be attached to the model to encode text. Load the model from files with a tokenizer, ' +
          'set `preprocessor`, or call `predict` with token ids.',
      );
    }
    const rows = checkedTexts(text).map(one => preprocessor.packedTokens([one]));
    const width = this.outputs[0]!.shape.at(-1)!;
    const all = new Float32Array(rows.length * width);
    for (const batch of batchesOfSimilarLength(
      rows.map(({length}) => length),
      batchSize,
    )) {
      // On synchronous backends no other code would run otherwise, so nobody could abort.
      await nextTurn();
      signal?.throwIfAborted();
      const vectors = await this.encodeRows(batch.map(row => rows[row]!));
      batch.forEach((row, i) => all.set(vectors.subarray(i * width, (i + 1) * width), row * width));
    }
    return tf.tensor2d(all, [rows.length, width]);
  }

  private async encodeRows(rows: readonly (readonly number[])[]): Promise<Float32Array> {
    const {padTokenId} = this.preprocessor!.tokenizer;
    const length = Math.max(...rows.map(row => row.length));
    const padded = rows.flatMap(row => [...row, ...Array.from({length: length - row.length}, () => padTokenId)]);
    const tokenIds = tf.tensor2d(padded, [rows.length, length], 'int32');
    const kept = padded.map(id => Number(id !== padTokenId));
    const inputs = this.textInputs(tokenIds, tf.tensor2d(kept, [rows.length, length], 'int32'));
    try {
      const y = this.predict(inputs as ModelInputs, {batchSize: rows.length}) as tf.Tensor;
      try {
        return (await y.data()) as Float32Array;
      } finally {
        y.dispose();
      }
    } finally {
      tf.dispose(inputs);
    }
  }

  /**
   * Dot products of all pairs, (number of queries, number of documents). For embeddings of length 1, the default, these
   * are the cosines of the angles between queries and documents.
   *
   * @throws ValueError unless both are matrices of the same width.
   */
  similarity(queryEmbeddings: Embeddings, documentEmbeddings: Embeddings): tf.Tensor2D {
    return tf.tidy(() => {
      const [queries, documents] = [queryEmbeddings, documentEmbeddings].map(given =>
        given instanceof tf.Tensor ? given : tf.tensor(given as number[][]),
      ) as [tf.Tensor, tf.Tensor];
      if (queries.rank !== 2 || documents.rank !== 2 || queries.shape[1] !== documents.shape[1]) {
        throw new ValueError(
          'Expected embeddings (queries, width) and (documents, width). Received: shapes ' +
            `[${queries.shape}] and [${documents.shape}].`,
        );
      }
      return tf.matMul(queries, documents, false, true) as tf.Tensor2D;
    });
  }
}

function checkedTexts(text: string | readonly string[]): readonly string[] {
  const texts = typeof text === 'string' ? [text] : text;
  if (!Array.isArray(texts) || texts.length === 0 || !texts.every(one => typeof one === 'string')) {
    throw new ValueError(`Expected a text or a list of texts, at least one. Received: ${show(text)}.`);
  }
  return texts;
}

/** Largest share of padding in a batch. */
const MAX_PADDING = 0.25;

/**
 * Groups rows into batches of similar length → the indices of the rows in each batch, longest rows first. A batch ends
 * when it is full, or when the next row would add too much padding.
 */
export function batchesOfSimilarLength(lengths: readonly number[], batchSize: number): number[][] {
  const order = lengths.map((_, row) => row).sort((a, b) => lengths[b]! - lengths[a]!);
  const batches: number[][] = [];
  let batch: number[] = [];
  let tokens = 0;
  for (const row of order) {
    const places = (batch.length + 1) * lengths[batch[0] ?? row]!;
    if (batch.length === batchSize || places - tokens - lengths[row]! > MAX_PADDING * places) {
      batches.push(batch);
      batch = [];
      tokens = 0;
    }
    batch.push(row);
    tokens += lengths[row]!;
  }
  if (batch.length) batches.push(batch);
  return batches;
}

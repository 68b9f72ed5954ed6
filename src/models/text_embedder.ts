/** The base class of text embedders: one vector per text, computed in batches with little padding. */
import * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform/turn';
import {checkArgument} from '../base/checks';
import {checkKeys, show, ValueError} from '../base/errors';
import {type CheckpointLike} from '../checkpoints/open_checkpoint';
import {type ModelInputs} from '../layers/named_inputs';
import {type NestedArray, type ShapedArray, toTensor} from '../layers/tensor_like';
import {type FitCallbacks} from '../training/fit_options';
import {WeightSnapshot} from '../weights/in_use';
import {type FromPresetOptions} from './backbone';
import {type TextEmbedderCompileArgs, tfjsCompileArgs} from './embedder_compile';
import {type DataTensors, type ModelFitArgs, type ModelTargets} from './model';
import {loadFromBase, type PresetOptions} from './preset_classes';
import {Task} from './task';

/** The part of a preprocessor that `encodeText` uses. */
export interface EmbedderPreprocessor {
  readonly tokenizer: {readonly padTokenId: number};
  /** Token ids of a text as the model takes them, without padding. */
  packedTokens(segments: readonly string[]): number[];
}

/** Options of {@link TextEmbedder.encodeText}. */
export interface EncodeOptions {
  /** Largest number of texts that go through the model at once. Defaults to 32. */
  batchSize?: number;
  /**
   * The kind of texts, as a name in {@link TextEmbedder.prompts} such as "query" or "document": the prompt is put
   * before each text. Defaults to the model's `defaultPromptName`, if it has one; null adds nothing.
   */
  promptName?: string | null;
  /** Stops encoding: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** Prefixes with which some embedders were trained, by the kind of text. */
export interface EmbedderPrompts {
  /** The prefixes by name. Empty, the default, for most models. */
  readonly prompts: Readonly<Record<string, string>>;
  /** The name of the prompt for `encodeText` without `promptName`. Null, the default: no prompt. */
  readonly defaultPromptName: string | null;
}

/** One text or several: rows of training data. */
export type Texts = string | readonly string[];

/** Inputs of an embedder's `fit` and `evaluate`: texts, or tensors or arrays of numbers. */
export type EmbedderInputs = Texts | ModelInputs;

/** Their targets: one row per text. */
export type EmbedderTargets = ModelTargets;

/** Options of {@link TextEmbedder.fit}: those of tfjs, whose `validationData` may have texts as well. */
export interface EmbedderFitArgs extends Omit<tf.ModelFitArgs, 'validationData' | 'callbacks'> {
  /** Callbacks of this package or of tfjs, or functions by name. */
  callbacks?: FitCallbacks;
  /** Evaluated at the end of each epoch. */
  validationData?: readonly [EmbedderInputs, EmbedderTargets] | tf.ModelFitArgs['validationData'];
}

const isTexts = (x: unknown): x is Texts =>
  typeof x === 'string' || (Array.isArray(x) && x.length > 0 && x.every(text => typeof text === 'string'));

/** One vector per row: a tensor (N, D), or N arrays of D numbers. */
export type Embeddings = tf.Tensor2D | readonly NestedArray[] | ShapedArray;

/** A backbone whose hidden states become one vector per text. As `keras_hub.models.TextEmbedder`. */
export abstract class TextEmbedder extends Task {
  /** @nocollapse */
  static override className = 'TextEmbedder';
  abstract override preprocessor: EmbedderPreprocessor | null;
  /** Prefixes of texts, as a folder of sentence-transformers lists them: see `promptName` of {@link EncodeOptions}. */
  prompts: Readonly<Record<string, string>> = {};
  /** The name of the prompt for `encodeText` without `promptName`. Null, the default: no prompt. */
  defaultPromptName: string | null = null;

  /** As {@link Task.fromPreset}. */
  static override async fromPreset(
    preset: CheckpointLike,
    options: FromPresetOptions & PresetOptions = {},
  ): Promise<TextEmbedder> {
    return loadFromBase<TextEmbedder>(this, preset, options);
  }

  /** Inputs of the model for token ids and their padding mask, both (B, T). The caller disposes them. */
  protected abstract textInputs(tokenIds: tf.Tensor2D, paddingMask: tf.Tensor2D): Record<string, tf.Tensor>;

  /**
   * Sets optimizer, loss and metrics for `fit`. There is no default loss: none suits all training of embedders.
   *
   * @throws ValueError on unknown or unusable arguments.
   */
  override compile(args: TextEmbedderCompileArgs): void {
    super.compile(tfjsCompileArgs(args));
    // tfjs disposes with the model only optimizers that it created itself.
    if ((args.optimizer ?? 'auto') === 'auto') (this as unknown as {isOptimizerOwned: boolean}).isOptimizerOwned = true;
  }

  // === Training, on texts or tensors ===

  /**
   * Trains on texts with one target per text, or on tensors or arrays of numbers: tfjs' own `fit`, with its options, among them
   * `classWeight`, `validationSplit` and `callbacks`. Texts are padded to the longest one.
   *
   * @throws ValueError for packed weights, for texts without a preprocessor, and if there is not one target per text;
   * errors of tfjs on unusable options.
   */
  override async fit(x: EmbedderInputs, y: EmbedderTargets, args: EmbedderFitArgs = {}): Promise<tf.History> {
    return super.fit(x as ModelInputs, y, args as ModelFitArgs);
  }

  /**
   * Trains on one batch, for one step.
   *
   * @returns the loss before the step, or [loss, …metrics].
   * @throws as {@link fit}.
   */
  override async trainOnBatch(x: EmbedderInputs, y: EmbedderTargets): Promise<number | number[]> {
    return super.trainOnBatch(x as ModelInputs, y);
  }

  /**
   * The loss and the metrics of one batch, without changing anything.
   *
   * @throws as {@link fit}.
   */
  override async testOnBatch(x: EmbedderInputs, y: EmbedderTargets): Promise<number | number[]> {
    return super.testOnBatch(x as ModelInputs, y);
  }

  /**
   * Computes the loss and the metrics, in that order. The caller disposes these scalars.
   *
   * @throws as {@link fit}.
   */
  override evaluate(x: EmbedderInputs, y: EmbedderTargets, args: tf.ModelEvaluateArgs = {}): tf.Scalar | tf.Scalar[] {
    return super.evaluate(x as ModelInputs, y, args);
  }

  /** Texts are tokenized; everything else is as for any model. */
  protected override dataTensors(x: EmbedderInputs, y: EmbedderTargets): DataTensors {
    if (!isTexts(x)) return super.dataTensors(x, y);
    const inputs = this.paddedInputs(this.tokensOf(x, 'train on text'));
    let data: DataTensors | undefined;
    try {
      data = super.dataTensors(inputs, y);
      const {targets} = data;
      const [first] = targets instanceof tf.Tensor ? [targets] : Object.values(targets);
      const texts = [x].flat().length;
      if (texts !== first?.shape[0]) {
        throw new ValueError(
          `Expected one target for each of ${texts} texts. Received: shape [${first?.shape ?? ''}].`,
        );
      }
      return {...data, created: [...data.created, ...Object.values(inputs)]};
    } catch (error) {
      tf.dispose([Object.values(inputs), data?.created ?? []]);
      throw error;
    }
  }

  /** @throws ValueError without a preprocessor, and on unusable texts. */
  private tokensOf(texts: Texts, purpose: string): number[][] {
    const {preprocessor} = this;
    if (!preprocessor) {
      throw new ValueError(
        `A \`preprocessor\` must be attached to the model to ${purpose}. Load the model from files with a tokenizer, ` +
          'set `preprocessor`, or pass token ids.',
      );
    }
    return checkedTexts(texts).map(one => preprocessor.packedTokens([one]));
  }

  /** @throws ValueError on a name that the model does not have. */
  private promptOf(name: string | null): string {
    if (name === null) return '';
    const {prompts} = this;
    if (typeof name === 'string' && Object.hasOwn(prompts, name)) return prompts[name]!;
    const known = Object.keys(prompts);
    throw new ValueError(
      `encodeText expected \`promptName\` to be ${known.length ? `one of ${known.join(', ')}` : 'left out: the model has no prompts'}. ` +
        `Received: promptName=${show(name)}.`,
    );
  }

  /**
   * Embeddings of one text or several, (number of texts, embedding size), in the order of the texts. Texts of similar
   * length go through the model together, so batches have little padding. Memory holds one batch and the result.
   *
   * @throws ValueError without a preprocessor, and on unusable texts or options; the signal's reason when aborted. Only
   * the returned tensor stays in memory.
   */
  async encodeText(text: string | readonly string[], options: EncodeOptions = {}): Promise<tf.Tensor2D> {
    this.checkInUse();
    checkKeys('encodeText', options, ['batchSize', 'promptName', 'signal']);
    const {batchSize = 32, promptName = this.defaultPromptName, signal} = options;
    checkArgument('encodeText', 'batchSize', batchSize, 'size');
    const prompt = this.promptOf(promptName);
    const rows = this.tokensOf(prompt ? checkedTexts(text).map(one => prompt + one) : text, 'encode text');
    const width = this.outputs[0]!.shape.at(-1)!;
    const all = new Float32Array(rows.length * width);
    const snapshot = new WeightSnapshot(() => this.weights);
    for (const batch of batchesOfSimilarLength(
      rows.map(({length}) => length),
      batchSize,
    )) {
      // On synchronous backends no other code would run otherwise, so an abort would never be noticed.
      await nextTurn();
      signal?.throwIfAborted();
      const vectors = await this.encodeRows(batch.map(row => rows[row]!));
      snapshot.check('encoding texts');
      batch.forEach((row, i) => all.set(vectors.subarray(i * width, (i + 1) * width), row * width));
    }
    return tf.tensor2d(all, [rows.length, width]);
  }

  /** Inputs of the model for token ids of several texts, padded to the longest. The caller disposes them. */
  private paddedInputs(rows: readonly (readonly number[])[]): Record<string, tf.Tensor> {
    const {padTokenId} = this.preprocessor!.tokenizer;
    const length = Math.max(...rows.map(row => row.length));
    const padded = rows.flatMap(row => [...row, ...Array.from({length: length - row.length}, () => padTokenId)]);
    const tokenIds = tf.tensor2d(padded, [rows.length, length], 'int32');
    const kept = padded.map(id => Number(id !== padTokenId));
    return this.textInputs(tokenIds, tf.tensor2d(kept, [rows.length, length], 'int32'));
  }

  private async encodeRows(rows: readonly (readonly number[])[]): Promise<Float32Array> {
    const inputs = this.paddedInputs(rows);
    try {
      const y = this.predict(inputs, {batchSize: rows.length}) as tf.Tensor;
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
      const queries = toTensor('queryEmbeddings', queryEmbeddings, 'float32');
      const documents = toTensor('documentEmbeddings', documentEmbeddings, 'float32');
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

/** What a batch takes in addition to its tokens, above all reading the weights, as a number of tokens. */
export const TOKENS_PER_BATCH = 16;

/**
 * Groups rows into batches of similar length → the indices of the rows in each batch, longest rows first. Of all ways to
 * do that, with at most `batchSize` rows in a batch, it takes the one that computes least, padding included.
 */
export function batchesOfSimilarLength(lengths: readonly number[], batchSize: number): number[][] {
  const order = lengths.map((_, row) => row).sort((a, b) => lengths[b]! - lengths[a]!);
  const count = order.length;
  // For the rows from each place of `order` to the end: the least work, and the size of the first batch.
  const work = new Float64Array(count + 1);
  const sizes = new Uint32Array(count);
  for (let first = count - 1; first >= 0; first--) {
    const length = lengths[order[first]!]!;
    work[first] = Infinity;
    for (let size = 1; size <= Math.min(batchSize, count - first); size++) {
      const sum = size * length + TOKENS_PER_BATCH + work[first + size]!;
      // Of equal sums, the larger batch.
      if (sum > work[first]!) continue;
      work[first] = sum;
      sizes[first] = size;
    }
  }
  const batches: number[][] = [];
  for (let first = 0; first < count; first += sizes[first]!) batches.push(order.slice(first, first + sizes[first]!));
  return batches;
}

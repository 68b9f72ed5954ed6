/** Training data as rows that can be read in batches: text with a preprocessor, or tensors. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {Fingerprint} from '../base/fingerprint';
import {isShapedArray, partsOf} from '../base/nested_array';
import {inputTensors, type ModelInputs, type ModelWithInputs} from '../layers/named_inputs';
import {type TensorOrArray, toTensor} from '../layers/tensor_like';
import {
  answersOf,
  type Conversations,
  isConversations,
  listOfConversations,
  warnOfTemplate,
} from '../tokenizers/conversations';
import {type Batch, type Labels, weightedTokens} from './batch';

/** Rows that can be read in batches. */
export interface Examples {
  /** Length of each row in tokens, up to the last token that has a weight or is not padding. */
  readonly lengths: readonly number[];
  /** Length of the rows including padding. */
  readonly sequenceLength: number;
  /** A fingerprint that differs for different texts, tokens, labels or weights. Pixels are not included. */
  fingerprint(): string;
  /** A batch of the given rows, cut or padded to `length`. The caller disposes its inputs. */
  batch(rows: readonly number[], length: number): Promise<Batch>;
  dispose(): void;
}

/** Texts for training, in the form a preprocessor takes. */
export interface TrainingTexts {
  prompts: string | readonly string[];
  responses?: string | readonly string[];
  images?: unknown;
}

/** The part of a preprocessor that training uses. */
export interface TrainingPreprocessor {
  readonly sequenceLength: number;
  call(
    x: TrainingTexts,
    options: {sequenceLength?: number},
  ): Promise<{x: object; y: tf.Tensor; sampleWeight: tf.Tensor}>;
  packedLengths(x: TrainingTexts): number[];
  readonly tokenizer?: Parameters<typeof warnOfTemplate>[0];
}

/** A model with named inputs, and the preprocessor that turns text into them (null without one). */
export type ModelWithText = ModelWithInputs & {readonly preprocessor: unknown};

/** Labels or weights, as a tensor or arrays of numbers. */
export type LabelsLike = TensorOrArray;

/** Texts, conversations, or [inputs, labels] or [inputs, labels, weights] as tensors or nested arrays. */
export type TrainingData =
  | string
  | readonly string[]
  | TrainingTexts
  | Conversations
  | readonly [ModelInputs, LabelsLike]
  | readonly [ModelInputs, LabelsLike, LabelsLike];

/** Whether a value is text for a preprocessor. */
export function isText(x: unknown): x is string | readonly string[] | TrainingTexts | Conversations {
  if (typeof x === 'string' || isConversations(x)) return true;
  if (Array.isArray(x)) return x.length > 0 && x.every(text => typeof text === 'string');
  return typeof x === 'object' && x !== null && 'prompts' in x;
}

const select = <T>(list: readonly T[], rows: readonly number[]): T[] => rows.map(row => list[row]!);

/**
 * Plain texts are learned from the first token on: each is a response to an empty prompt. In a conversation, each
 * answer is a response to everything before it.
 */
function promptsAndResponses(x: string | readonly string[] | TrainingTexts | Conversations): TrainingTexts {
  if (isConversations(x)) {
    const answers = listOfConversations(x).flatMap(answersOf);
    return {
      prompts: answers.map(({prompt}) => prompt),
      responses: answers.map(({response}) => response),
      ...(answers.some(({images}) => images.length > 0) && {images: answers.map(({images}) => images)}),
    };
  }
  if (typeof x === 'object' && 'prompts' in x) {
    if (typeof x.prompts !== 'string') return x;
    // A single text is a batch of one.
    const {prompts, responses, images, ...rest} = x;
    return {
      ...rest,
      prompts: [prompts],
      ...(responses !== undefined && {responses: [responses].flat() as string[]}),
      ...(images !== undefined && images !== null && {images: [images]}),
    };
  }
  const responses = [x].flat() as string[];
  return {prompts: responses.map(() => ''), responses};
}

/**
 * The images of the given rows: selected from a list, or gathered from a tensor (B, …). The caller disposes that
 * tensor.
 */
const selectImages = (images: unknown, rows: readonly number[]): unknown[] | tf.Tensor =>
  Array.isArray(images) || isShapedArray(images)
    ? select(Array.isArray(images) ? images : partsOf(images), rows)
    : tf.tidy(() => tf.gather(images as tf.Tensor, tf.tensor1d(rows as number[], 'int32')));

/** Texts that are preprocessed batch by batch. */
export class TextExamples implements Examples {
  readonly lengths: readonly number[];
  readonly sequenceLength: number;
  private readonly texts: TrainingTexts;

  /** @throws ValueError on texts that the preprocessor does not accept. */
  constructor(
    private readonly preprocessor: TrainingPreprocessor,
    texts: string | readonly string[] | TrainingTexts | Conversations,
  ) {
    if (isConversations(texts) && preprocessor.tokenizer) warnOfTemplate(preprocessor.tokenizer);
    this.texts = promptsAndResponses(texts);
    this.lengths = preprocessor.packedLengths(this.texts);
    this.sequenceLength = preprocessor.sequenceLength;
  }

  async batch(rows: readonly number[], length: number): Promise<Batch> {
    const {prompts, responses, images} = this.texts;
    const selected = images === undefined || images === null ? null : selectImages(images, rows);
    try {
      const texts = {
        prompts: select(prompts as readonly string[], rows),
        responses: select(responses as readonly string[], rows),
        ...(selected && {images: selected}),
      };
      const {x, y, sampleWeight} = await this.preprocessor.call(texts, {sequenceLength: length});
      const [labels, weights] = await Promise.all([y.data(), sampleWeight.data()]);
      tf.dispose([y, sampleWeight]);
      const inputs = x as Record<string, tf.Tensor>;
      return {
        inputs,
        rows: rows.length,
        length: y.shape[1]!,
        ...weightedTokens({y: labels, weights}),
        size: rows.length * this.sequenceLength,
      };
    } finally {
      if (selected instanceof tf.Tensor) selected.dispose();
    }
  }

  fingerprint(): string {
    const {prompts, responses, images} = this.texts;
    const hash = new Fingerprint();
    for (const texts of [prompts, responses]) for (const text of [texts ?? []].flat()) hash.addText(text as string);
    const paths = Array.isArray(images) ? images.flat(2).filter(image => typeof image === 'string') : [];
    for (const path of paths) hash.addText(path);
    return String(hash);
  }

  dispose(): void {}
}

/** Inputs with one entry per token. */
const PER_TOKEN = ['token_ids', 'padding_mask', 'vision_mask'];

/** Tensors that hold all rows. Values that exist per token are read into memory once; other inputs stay tensors. */
export class TensorExamples implements Examples {
  readonly lengths: readonly number[];

  private constructor(
    private readonly count: number,
    readonly sequenceLength: number,
    private readonly perToken: Record<string, ArrayLike<number>>,
    private readonly others: Record<string, tf.Tensor>,
    private readonly labels: Labels,
    /** Tensors created from nested arrays. */
    private readonly owned: tf.Tensor[],
  ) {
    const {padding_mask: mask} = perToken;
    this.lengths = Array.from({length: count}, (_, row) => {
      let length = sequenceLength;
      const counts = (t: number) =>
        mask![row * sequenceLength + t] !== 0 || labels.weights[row * sequenceLength + t] !== 0;
      while (length > 1 && !counts(length - 1)) length -= 1;
      return length;
    });
  }

  /** @throws ValueError if inputs, labels or weights are unusable, or their shapes do not match. */
  static async of(
    model: ModelWithInputs,
    x: ModelInputs,
    y: LabelsLike,
    sampleWeight?: LabelsLike,
  ): Promise<TensorExamples> {
    if (y === undefined || y === null) {
      throw new ValueError(
        'Expected labels with the inputs: fit(x, y, options), where `y` holds the token that should follow each token of ' +
          '`x`. Received none.',
      );
    }
    const {tensors, created} = inputTensors(model, x);
    try {
      const [rows, length] = tensors[0]!.shape as [number, number];
      const labels = toTensor('y', y, 'int32', created);
      const weights =
        sampleWeight === undefined ? undefined : toTensor('sampleWeight', sampleWeight, 'float32', created);
      // Keras' labels of tokens may have a last dimension of 1.
      const shape = labels.rank === 3 && labels.shape[2] === 1 ? labels.shape.slice(0, 2) : labels.shape;
      // A single sample comes without the first axis, as its inputs do.
      const single = rows === 1 && labels.shape.join() === String(length);
      if (shape.join() !== [rows, length].join() && !single) {
        throw new ValueError(
          `Expected \`y\` as (batch, length), the token that should follow each of token_ids [${rows},${length}]. ` +
            `Received: shape [${labels.shape}].`,
        );
      }
      if (weights && weights.size !== rows * length && weights.size !== rows) {
        throw new ValueError(
          `Expected \`sampleWeight\` as (batch, length), [${rows},${length}], or as (batch), one per row. ` +
            `Received: shape [${weights.shape}].`,
        );
      }
      const [labelValues, weightValues] = await Promise.all([labels.data(), weights?.data()]);
      const perRow = weights !== undefined && weights.size === rows && length !== 1;
      const tokenWeights = Float32Array.from({length: rows * length}, (_, i) =>
        weightValues === undefined ? 1 : weightValues[perRow ? Math.floor(i / length) : i]!,
      );
      const perToken: Record<string, ArrayLike<number>> = {};
      const others: Record<string, tf.Tensor> = {};
      for (const [i, name] of model.inputNames.entries()) {
        if (PER_TOKEN.includes(name)) perToken[name] = await tensors[i]!.data();
        else others[name] = tensors[i]!;
      }
      return new TensorExamples(rows, length, perToken, others, {y: labelValues, weights: tokenWeights}, created);
    } catch (error) {
      tf.dispose(created);
      throw error;
    }
  }

  fingerprint(): string {
    const hash = new Fingerprint();
    const {y, weights} = this.labels;
    for (const values of [...Object.values(this.perToken), y, weights]) hash.addNumbers(values);
    return String(hash);
  }

  async batch(rows: readonly number[], length: number): Promise<Batch> {
    const {sequenceLength, labels} = this;
    const cut = <A extends Int32Array | Float32Array>(values: ArrayLike<number>, out: A): A => {
      rows.forEach((row, i) => {
        for (let t = 0; t < length; t++) out[i * length + t] = values[row * sequenceLength + t]!;
      });
      return out;
    };
    const size = rows.length * length;
    const all = rows.length === this.count && rows.every((row, i) => row === i);
    const perToken = Object.entries(this.perToken).map(([name, values]): [string, tf.Tensor] => [
      name,
      tf.tensor2d(cut(values, new Int32Array(size)), [rows.length, length], 'int32'),
    ]);
    const others = Object.entries(this.others).map(([name, tensor]): [string, tf.Tensor] => [
      name,
      // tf.gather does not accept rows without values.
      all || tensor.size === 0
        ? tf.reshape(tensor, [tensor.size === 0 ? rows.length : this.count, ...tensor.shape.slice(1)])
        : tf.tidy(() => tf.gather(tensor, tf.tensor1d(rows as number[], 'int32'))),
    ]);
    const y = cut(labels.y, new Int32Array(size));
    const weights = cut(labels.weights, new Float32Array(size));
    return {
      inputs: Object.fromEntries([...perToken, ...others]),
      rows: rows.length,
      length,
      ...weightedTokens({y, weights}),
      size: rows.length * sequenceLength,
    };
  }

  dispose(): void {
    tf.dispose(this.owned);
  }
}

/**
 * Converts training data of any accepted form to examples. The caller disposes them.
 *
 * @param owner name of the argument that holds the data, for errors.
 * @throws ValueError on unusable data, and on text for a model without a preprocessor.
 */
export async function examplesOf(model: ModelWithText, data: unknown, owner: string): Promise<Examples> {
  if (isText(data)) {
    const preprocessor = model.preprocessor as TrainingPreprocessor | null;
    if (preprocessor) return new TextExamples(preprocessor, data);
    throw new ValueError(
      'A `preprocessor` must be attached to the model to train on text. Without one, pass {token_ids, padding_mask} and labels.',
    );
  }
  if (!Array.isArray(data) || data.length < 2 || data.length > 3) {
    const received = Array.isArray(data) ? `a list of length ${data.length}` : show(data);
    throw new ValueError(
      `Expected \`${owner}\` as text, as {prompts, responses} or as [x, y] or [x, y, sampleWeight]. Received: ${received}.`,
    );
  }
  const [x, y, weights] = data as [ModelInputs, LabelsLike, LabelsLike?];
  return TensorExamples.of(model, x, y, weights);
}

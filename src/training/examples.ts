/** What a language model is trained on, of which batches are made: strings with a preprocessor, or tensors. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {inputTensors, type ModelInputs, type ModelWithInputs} from '../layers/named_inputs';
import {type Batch, weightedTokens} from './batch';

/** Rows, and batches of them. */
export interface Examples {
  /** Places of each row up to the last that counts. */
  readonly lengths: readonly number[];
  /** Places of each row as it was given. */
  readonly sequenceLength: number;
  /** Some rows, `length` places each; the caller disposes its inputs. */
  batch(rows: readonly number[], length: number): Promise<Batch>;
  dispose(): void;
}

/** Texts for training, as a preprocessor takes them. */
export interface TrainingTexts {
  prompts: string | readonly string[];
  responses?: string | readonly string[];
  images?: unknown;
}

/** What training needs of a preprocessor. */
export interface TrainingPreprocessor {
  readonly sequenceLength: number;
  call(
    x: TrainingTexts,
    options: {sequenceLength?: number},
  ): Promise<{x: object; y: tf.Tensor; sampleWeight: tf.Tensor}>;
  packedLengths(x: TrainingTexts): number[];
}

/** A model with inputs by name, and what makes them of text. */
export type ModelWithText = ModelWithInputs & {readonly preprocessor: unknown};

/** Labels as tensors or nested arrays. */
export type LabelsLike = tf.Tensor | tf.TensorLike;

/** Texts, or [inputs, labels] or [inputs, labels, weights] as tensors or nested arrays. */
export type TrainingData =
  | string
  | readonly string[]
  | TrainingTexts
  | readonly [ModelInputs, LabelsLike]
  | readonly [ModelInputs, LabelsLike, LabelsLike];

/** Whether something is text for a preprocessor. */
export function isText(x: unknown): x is string | readonly string[] | TrainingTexts {
  if (typeof x === 'string') return true;
  if (Array.isArray(x)) return x.length > 0 && x.every(text => typeof text === 'string');
  return typeof x === 'object' && x !== null && 'prompts' in x;
}

const some = <T>(list: readonly T[], rows: readonly number[]): T[] => rows.map(row => list[row]!);

/** Texts alone are trained on as a whole: they are responses to nothing. */
function promptsAndResponses(x: string | readonly string[] | TrainingTexts): TrainingTexts {
  if (typeof x === 'object' && 'prompts' in x) {
    if (typeof x.prompts !== 'string') return x;
    // One text is a batch of one.
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

/** Images of some prompts: chosen from a list, or gathered from a tensor (B, …), which the caller disposes. */
const someImages = (images: unknown, rows: readonly number[]): unknown[] | tf.Tensor =>
  Array.isArray(images)
    ? some(images, rows)
    : tf.tidy(() => tf.gather(images as tf.Tensor, tf.tensor1d(rows as number[], 'int32')));

/** Texts, preprocessed when their turn comes. */
export class TextExamples implements Examples {
  readonly lengths: readonly number[];
  readonly sequenceLength: number;
  private readonly texts: TrainingTexts;

  /** @throws ValueError as the preprocessor, on what it cannot take. */
  constructor(
    private readonly preprocessor: TrainingPreprocessor,
    texts: string | readonly string[] | TrainingTexts,
  ) {
    this.texts = promptsAndResponses(texts);
    this.lengths = preprocessor.packedLengths(this.texts);
    this.sequenceLength = preprocessor.sequenceLength;
  }

  async batch(rows: readonly number[], length: number): Promise<Batch> {
    const {prompts, responses, images} = this.texts;
    const given = images === undefined || images === null ? null : someImages(images, rows);
    try {
      const texts = {
        prompts: some(prompts as readonly string[], rows),
        responses: some(responses as readonly string[], rows),
        ...(given && {images: given}),
      };
      const {x, y, sampleWeight} = await this.preprocessor.call(texts, {sequenceLength: length});
      const [labels, weights] = await Promise.all([y.data(), sampleWeight.data()]);
      tf.dispose([y, sampleWeight]);
      const inputs = x as Record<string, tf.Tensor>;
      return {
        inputs,
        rows: rows.length,
        ...weightedTokens({y: labels, weights}),
        size: rows.length * this.sequenceLength,
      };
    } finally {
      if (given instanceof tf.Tensor) given.dispose();
    }
  }

  dispose(): void {}
}

/** Inputs that have an entry for each place of a row. */
const PER_PLACE = ['token_ids', 'padding_mask', 'vision_mask'];

/** Labels or weights as a tensor; made anew unless they are one. */
function labelTensor(name: string, value: LabelsLike, dtype: 'int32' | 'float32'): tf.Tensor {
  if (value instanceof tf.Tensor) return value;
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return tf.tensor(value as tf.TensorLike, undefined, dtype);
  throw new ValueError(`Expected \`${name}\` as a tensor or as nested arrays of numbers. Received: ${show(value)}.`);
}

/** Tensors of all rows. What each place has is read once, the rest stays where it is. */
export class TensorExamples implements Examples {
  readonly lengths: readonly number[];

  private constructor(
    private readonly count: number,
    readonly sequenceLength: number,
    private readonly perPlace: Record<string, ArrayLike<number>>,
    private readonly others: Record<string, tf.Tensor>,
    private readonly labels: {y: ArrayLike<number>; weights: ArrayLike<number>},
    private readonly made: tf.Tensor[],
  ) {
    const {padding_mask: mask} = perPlace;
    this.lengths = Array.from({length: count}, (_, row) => {
      let length = sequenceLength;
      const counts = (t: number) =>
        mask![row * sequenceLength + t] !== 0 || labels.weights[row * sequenceLength + t] !== 0;
      while (length > 1 && !counts(length - 1)) length -= 1;
      return length;
    });
  }

  /** @throws ValueError on inputs, labels and weights that are unusable or do not fit each other. */
  static async of(
    model: ModelWithInputs,
    x: ModelInputs,
    y: LabelsLike,
    sampleWeight?: LabelsLike,
  ): Promise<TensorExamples> {
    if (y === undefined || y === null) {
      throw new ValueError(
        'Expected labels beside inputs: fit(x, y, options), the token that should come behind each. Received none.',
      );
    }
    const {tensors, made} = inputTensors(model, x);
    try {
      const [rows, length] = tensors[0]!.shape as [number, number];
      const labels = labelTensor('y', y, 'int32');
      if (labels !== y) made.push(labels);
      const weights = sampleWeight === undefined ? undefined : labelTensor('sampleWeight', sampleWeight, 'float32');
      if (weights && weights !== sampleWeight) made.push(weights);
      if (labels.shape.join() !== [rows, length].join()) {
        throw new ValueError(
          `Expected \`y\` as (batch, length), the token behind each of token_ids [${rows},${length}]. ` +
            `Received: shape [${labels.shape}].`,
        );
      }
      if (weights && weights.size !== rows * length && weights.size !== rows) {
        throw new ValueError(
          `Expected \`sampleWeight\` as (batch, length), [${rows},${length}], or as (batch), one of each row. ` +
            `Received: shape [${weights.shape}].`,
        );
      }
      const read = await Promise.all([labels.data(), weights?.data()]);
      const perRow = weights !== undefined && weights.size === rows && length !== 1;
      const each = Float32Array.from({length: rows * length}, (_, i) =>
        read[1] === undefined ? 1 : read[1][perRow ? Math.floor(i / length) : i]!,
      );
      const perPlace: Record<string, ArrayLike<number>> = {};
      const others: Record<string, tf.Tensor> = {};
      for (const [i, name] of model.inputNames.entries()) {
        if (PER_PLACE.includes(name)) perPlace[name] = await tensors[i]!.data();
        else others[name] = tensors[i]!;
      }
      return new TensorExamples(rows, length, perPlace, others, {y: read[0], weights: each}, made);
    } catch (error) {
      tf.dispose(made);
      throw error;
    }
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
    const perPlace = Object.entries(this.perPlace).map(([name, values]): [string, tf.Tensor] => [
      name,
      tf.tensor2d(cut(values, new Int32Array(size)), [rows.length, length], 'int32'),
    ]);
    const others = Object.entries(this.others).map(([name, tensor]): [string, tf.Tensor] => [
      name,
      // tfjs has no gather of rows without numbers.
      all || tensor.size === 0
        ? tf.reshape(tensor, [tensor.size === 0 ? rows.length : this.count, ...tensor.shape.slice(1)])
        : tf.tidy(() => tf.gather(tensor, tf.tensor1d(rows as number[], 'int32'))),
    ]);
    const y = cut(labels.y, new Int32Array(size));
    const weights = cut(labels.weights, new Float32Array(size));
    return {
      inputs: Object.fromEntries([...perPlace, ...others]),
      rows: rows.length,
      ...weightedTokens({y, weights}),
      size: rows.length * sequenceLength,
    };
  }

  dispose(): void {
    tf.dispose(this.made);
  }
}

/**
 * Examples of whatever is given; the caller disposes them.
 *
 * @throws ValueError on data that is unusable, and on texts without a preprocessor.
 */
export async function examplesOf(model: ModelWithText, data: unknown, owner: string): Promise<Examples> {
  if (isText(data)) {
    const preprocessor = model.preprocessor as TrainingPreprocessor | null;
    if (preprocessor) return new TextExamples(preprocessor, data);
    throw new ValueError(
      'A `preprocessor` must be attached to the model to train on text. Without one, give {token_ids, padding_mask} and labels.',
    );
  }
  if (!Array.isArray(data) || data.length < 2 || data.length > 3) {
    const received = Array.isArray(data) ? `a list of ${data.length}` : show(data);
    throw new ValueError(
      `Expected \`${owner}\` as text, as {prompts, responses} or as [x, y] or [x, y, sampleWeight]. Received: ${received}.`,
    );
  }
  const [x, y, weights] = data as [ModelInputs, LabelsLike, LabelsLike?];
  return TensorExamples.of(model, x, y, weights);
}

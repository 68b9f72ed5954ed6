/** Where batches of an epoch come from: examples in an order, or a dataset of tf.data. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {type Batch, batchesOf, type OrderArgs} from './batch';
import {type Examples, examplesOf, isText, type ModelWithText, type TrainingTexts} from './examples';

export interface BatchSource {
  /** Batches of an epoch, where this is known beforehand. */
  readonly batches: number | undefined;
  /** The batches of an epoch, without the first few. Whoever takes one disposes its inputs. */
  epoch(epoch: number, skip: number): AsyncIterable<Batch>;
}

/** Batches of some of the examples. */
export class ExampleSource implements BatchSource {
  constructor(
    private readonly examples: Examples,
    private readonly rows: readonly number[],
    private readonly order: OrderArgs & {padTo: 'longest' | 'sequenceLength'},
  ) {}

  get batches(): number {
    return Math.ceil(this.rows.length / this.order.batchSize);
  }

  async *epoch(epoch: number, skip: number): AsyncGenerator<Batch, void> {
    const {examples, rows, order} = this;
    for (const batch of batchesOf(rows, examples.lengths, order, epoch).slice(skip)) {
      const longest = Math.max(...batch.map(row => examples.lengths[row]!));
      yield await examples.batch(batch, order.padTo === 'longest' ? longest : examples.sequenceLength);
    }
  }
}

/** Strings of tensors, as tf.data batches them; all else as it is. */
async function strings(x: unknown): Promise<unknown> {
  return x instanceof tf.Tensor && x.dtype === 'string' ? Array.from((await x.data()) as never as string[]) : x;
}

/** An element of a dataset as `examplesOf` takes it: texts, or {xs, ys[, sampleWeight]}. */
async function dataOf(element: unknown): Promise<unknown> {
  const text = await strings(element);
  if (isText(text)) {
    if (typeof text === 'string' || Array.isArray(text)) return text;
    const {prompts, responses, images, ...rest} = text as TrainingTexts;
    return {
      ...rest,
      prompts: await strings(prompts),
      ...(responses !== undefined && {responses: await strings(responses)}),
      ...(images !== undefined && {images}),
    };
  }
  const {xs, ys, sampleWeight, ...rest} = (element ?? {}) as Record<string, unknown>;
  const unknown = Object.keys(rest);
  if (xs === undefined || ys === undefined || unknown.length > 0) {
    throw new ValueError(
      'Expected elements of the dataset as batches of text, as {prompts, responses} or as {xs, ys} or {xs, ys, ' +
        `sampleWeight}. Received: ${typeof element === 'object' && element ? Object.keys(element).join(', ') : show(element)}.`,
    );
  }
  return sampleWeight === undefined ? [xs, ys] : [xs, ys, sampleWeight];
}

/** Elements of a dataset, each a batch. */
export class DatasetSource implements BatchSource {
  constructor(
    private readonly model: ModelWithText,
    private readonly dataset: tf.data.Dataset<tf.TensorContainer>,
    readonly batches: number | undefined,
  ) {}

  async *epoch(_epoch: number, skip: number): AsyncGenerator<Batch, void> {
    const iterator = await this.dataset.iterator();
    for (let i = 0; this.batches === undefined || i < this.batches; i++) {
      const {value, done} = await iterator.next();
      if (done) return;
      try {
        if (i >= skip) yield await this.batch(value);
      } finally {
        tf.dispose(value);
      }
    }
  }

  /** Rows of an element are as long as the longest, but the loss is that of all places: see `Examples`. */
  private async batch(element: unknown): Promise<Batch> {
    const examples = await examplesOf(this.model, await dataOf(element), 'the dataset');
    try {
      const rows = examples.lengths.map((_, row) => row);
      return await examples.batch(rows, Math.max(...examples.lengths));
    } finally {
      examples.dispose();
    }
  }
}

/** Sources of an epoch's batches: examples in a given order, or a dataset of tf.data. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {type Batch, batchesOf, type OrderArgs} from './batch';
import {checkUnweighted, ClassWeightedExamples, type ClassWeights} from './class_weights';
import {type Examples, examplesOf, isText, type ModelWithText, type TrainingTexts} from './examples';

export interface BatchSource {
  /** Batches per epoch, if known in advance. */
  readonly batches: number | undefined;
  /** The batches of an epoch, without the first `skip`. The caller disposes the inputs of each. */
  epoch(epoch: number, skip: number): AsyncIterable<Batch>;
}

/** The length of a batch of all examples. */
export const lengthOf = ({lengths, sequenceLength}: Examples, padTo: 'longest' | 'sequenceLength'): number =>
  padTo === 'longest' ? Math.max(...lengths) : sequenceLength;

/** Batches of selected rows. */
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

/** Reads string tensors, which tf.data creates when it batches texts. Returns all other values unchanged. */
async function withStrings(x: unknown): Promise<unknown> {
  return x instanceof tf.Tensor && x.dtype === 'string' ? Array.from(await x.data<'string'>()) : x;
}

/** Converts an element of a dataset, which is text or {xs, ys[, sampleWeight]}, to the form `examplesOf` takes. */
async function dataOf(element: unknown): Promise<unknown> {
  const text = await withStrings(element);
  if (isText(text)) {
    if (typeof text === 'string' || Array.isArray(text)) return text;
    const {prompts, responses, images, ...rest} = text as TrainingTexts;
    return {
      ...rest,
      prompts: await withStrings(prompts),
      ...(responses !== undefined && {responses: await withStrings(responses)}),
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

/** The elements of a dataset, each of which is a batch. */
export class DatasetSource implements BatchSource {
  constructor(
    private readonly model: ModelWithText,
    private readonly dataset: tf.data.Dataset<tf.TensorContainer>,
    readonly batches: number | undefined,
    private readonly padTo: 'longest' | 'sequenceLength',
    private readonly classWeight?: ClassWeights,
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

  /**
   * With `padTo` "longest", rows are cut to the length of the longest row in the element. The loss is still divided by all positions: see
   * `Batch.size`.
   */
  private async batch(element: unknown): Promise<Batch> {
    const data = await dataOf(element);
    if (this.classWeight) checkUnweighted('fitDataset', data);
    const examples = await examplesOf(this.model, data, 'the dataset');
    const weighted = this.classWeight ? new ClassWeightedExamples(examples, this.classWeight) : examples;
    try {
      const rows = examples.lengths.map((_, row) => row);
      return await weighted.batch(rows, lengthOf(examples, this.padTo));
    } finally {
      examples.dispose();
    }
  }
}

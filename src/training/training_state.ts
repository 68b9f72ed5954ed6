/**
 * The state of a training run as bytes: position, trained weights and optimizer state. A resumed run gives
 * bit-identical results.
 *
 * Layout: "G3TRAIN1", the length of the JSON as uint32, the JSON, then the values of all tensors in the order listed
 * there, four bytes each, little-endian.
 */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';

/** The position of a run, between two steps. */
export interface Position {
  /** Current epoch, from 0. */
  epoch: number;
  /** Completed batches of the current epoch. */
  batch: number;
  /** Completed steps of all epochs. */
  step: number;
  seed: number;
  /** Sums over the completed batches of the current epoch: see `Means`. */
  sums: Record<string, number>;
  /** Logs of the completed epochs. */
  history: Record<string, number[]>;
  /** What later losses depend on: options, data, the frozen part of the model. It must be the same when the run resumes. */
  conditions: Record<string, string | number | boolean>;
}

const MAGIC = 'G3TRAIN1';
const HEADER = MAGIC.length + 4;

interface Listed {
  name: string;
  shape: number[];
  dtype: 'float32' | 'int32';
}
interface Description {
  position: Position;
  weights: Listed[];
  optimizer: {className: string; tensors: Listed[]};
}

const listed = ({name, tensor}: {name: string; tensor: tf.Tensor}): Listed => ({
  name,
  shape: tensor.shape,
  dtype: tensor.dtype as 'float32' | 'int32',
});
const classOf = (optimizer: tf.Optimizer): string => (optimizer.constructor as {className?: string}).className ?? '';

/** Serializes the state of a run between two steps. */
export async function packState(
  position: Position,
  weights: readonly tf.LayerVariable[],
  optimizer: tf.Optimizer,
): Promise<Uint8Array<ArrayBuffer>> {
  const trained = weights.map(weight => ({name: weight.originalName, tensor: weight.read()}));
  const slots = await optimizer.getWeights();
  const description: Description = {
    position,
    weights: trained.map(listed),
    optimizer: {className: classOf(optimizer), tensors: slots.map(listed)},
  };
  // All reads start in the same turn of the event loop, so that no step can run between them.
  const values = await Promise.all([...trained, ...slots].map(({tensor}) => tensor.data()));
  // tfjs' optimizers return their own variables; the ones of this package return copies.
  for (const {tensor} of slots) if (!(tensor instanceof tf.Variable)) tensor.dispose();
  const json = new TextEncoder().encode(JSON.stringify(description));
  const size = values.reduce((sum, {byteLength}) => sum + byteLength, HEADER + json.length);
  const bytes = new Uint8Array(size);
  bytes.set(new TextEncoder().encode(MAGIC));
  new DataView(bytes.buffer).setUint32(MAGIC.length, json.length, true);
  bytes.set(json, HEADER);
  let at = HEADER + json.length;
  for (const {buffer, byteOffset, byteLength} of values) {
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), at);
    at += byteLength;
  }
  return bytes;
}

const refuse = (received: string): never => {
  throw new ValueError(`Expected bytes returned by \`saveTrainingState\`. Received: ${received}.`);
};

function readDescription(bytes: Uint8Array): {description: Description; start: number} {
  if (!(bytes instanceof Uint8Array)) return refuse(show(bytes));
  if (new TextDecoder().decode(bytes.subarray(0, MAGIC.length)) !== MAGIC) refuse('bytes in another format');
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(MAGIC.length, true);
  const start = HEADER + length;
  if (start > bytes.length) refuse(`only ${bytes.length} bytes, which end before the values`);
  const description = JSON.parse(new TextDecoder().decode(bytes.subarray(HEADER, start))) as Description;
  const tensors = [...description.weights, ...description.optimizer.tensors];
  const size = tensors.reduce((sum, {shape}) => sum + 4 * tf.util.sizeFromShape(shape), start);
  if (size !== bytes.length) refuse(`${bytes.length} bytes instead of ${size}`);
  return {description, start};
}

/**
 * Restores weights and optimizer, and returns the position of the run.
 *
 * @param check throws if the run cannot resume from this position.
 * @throws ValueError on invalid bytes, or on a run with different weights or a different optimizer. In that case
 * nothing has changed.
 */
export async function unpackState(
  bytes: Uint8Array,
  weights: readonly tf.LayerVariable[],
  optimizer: tf.Optimizer,
  check: (position: Position) => void,
): Promise<Position> {
  const {description, start} = readDescription(bytes);
  const {weights: saved, optimizer: savedOptimizer, position} = description;
  const label = ({name, shape}: Pick<Listed, 'name' | 'shape'>) => `${name} [${shape.join()}]`;
  const expected = weights.map(({originalName, shape}) => label({name: originalName, shape: shape as number[]}));
  const received = saved.map(label);
  const wrong = Array.from({length: Math.max(expected.length, received.length)}, (_, i) => i).find(
    i => expected[i] !== received[i],
  );
  if (wrong !== undefined) {
    throw new ValueError(
      `Expected the training state of ${expected.length} weights, with ${expected[wrong] ?? 'nothing'} at index ${wrong}. ` +
        `Received: ${received.length} weights, with ${received[wrong] ?? 'nothing'} at that index.`,
    );
  }
  if (savedOptimizer.className !== classOf(optimizer)) {
    throw new ValueError(
      `Expected the training state of ${classOf(optimizer)}. Received the state of ${savedOptimizer.className}. Compile ` +
        'with the optimizer that the run began with.',
    );
  }
  check(position);
  let at = start;
  const next = ({shape, dtype}: Listed): tf.Tensor => {
    const size = tf.util.sizeFromShape(shape);
    const part = bytes.slice(at, at + 4 * size).buffer;
    at += 4 * size;
    return tf.tensor(dtype === 'int32' ? new Int32Array(part) : new Float32Array(part), shape, dtype);
  };
  const values = saved.map(next);
  const state = savedOptimizer.tensors.map(item => ({name: item.name, tensor: next(item)}));
  try {
    await optimizer.setWeights(state);
    weights.forEach((weight, i) => weight.write(values[i]!));
  } finally {
    tf.dispose([values, state.map(({tensor}) => tensor)]);
  }
  return position;
}

/**
 * All that a run needs to go on to the same numbers, as bytes: where it is, trained weights, what the optimizer keeps.
 *
 * Layout: "G3TRAIN1", the length of the JSON that follows as uint32, JSON, then the values of all tensors as they are listed
 * there, four bytes each, little-endian.
 */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';

/** Where a run is: between two steps. */
export interface Position {
  /** Epoch that is being worked at; from 0. */
  epoch: number;
  /** Batches of it that are done. */
  batch: number;
  /** Steps of all epochs that are done. */
  step: number;
  seed: number;
  /** Of the batches that are done: see `Means`. */
  sums: Record<string, number>;
  /** Of the epochs that are done. */
  history: Record<string, number[]>;
  /** What decides the order of batches; must be the same when the run goes on. */
  order: Record<string, string | number | boolean>;
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

/** Bytes of a run between two steps. */
export async function packState(
  position: Position,
  weights: readonly tf.LayerVariable[],
  optimizer: tf.Optimizer,
): Promise<Uint8Array<ArrayBuffer>> {
  const trained = weights.map(weight => ({name: weight.originalName, tensor: weight.read()}));
  const kept = await optimizer.getWeights();
  const description: Description = {
    position,
    weights: trained.map(listed),
    optimizer: {className: classOf(optimizer), tensors: kept.map(listed)},
  };
  // In one turn, so that no step comes between.
  const values = await Promise.all([...trained, ...kept].map(({tensor}) => tensor.data()));
  // Those of tfjs are the optimizer's own variables, ours are copies.
  for (const {tensor} of kept) if (!(tensor instanceof tf.Variable)) tensor.dispose();
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
  throw new ValueError(`Expected the bytes that \`saveTrainingState\` gave. Received: ${received}.`);
};

function readDescription(bytes: Uint8Array): {description: Description; start: number} {
  if (!(bytes instanceof Uint8Array)) return refuse('something else');
  if (new TextDecoder().decode(bytes.subarray(0, MAGIC.length)) !== MAGIC) refuse('bytes of something else');
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(MAGIC.length, true);
  const start = HEADER + length;
  if (start > bytes.length) refuse('a part of them');
  const description = JSON.parse(new TextDecoder().decode(bytes.subarray(HEADER, start))) as Description;
  const tensors = [...description.weights, ...description.optimizer.tensors];
  const size = tensors.reduce((sum, {shape}) => sum + 4 * tf.util.sizeFromShape(shape), start);
  if (size !== bytes.length) refuse(`${bytes.length} bytes of ${size}`);
  return {description, start};
}

/**
 * Gives weights and optimizer their values back; returns where the run was.
 *
 * @param check throws if the run cannot go on there.
 * @throws ValueError on other bytes, and on a run with other weights or another optimizer; nothing has changed then.
 */
export async function unpackState(
  bytes: Uint8Array,
  weights: readonly tf.LayerVariable[],
  optimizer: tf.Optimizer,
  check: (position: Position) => void,
): Promise<Position> {
  const {description, start} = readDescription(bytes);
  const {weights: saved, optimizer: kept, position} = description;
  const shown = ({name, shape}: Pick<Listed, 'name' | 'shape'>) => `${name} [${shape.join()}]`;
  const expected = weights.map(({originalName, shape}) => shown({name: originalName, shape: shape as number[]}));
  const received = saved.map(shown);
  const wrong = Array.from({length: Math.max(expected.length, received.length)}, (_, i) => i).find(
    i => expected[i] !== received[i],
  );
  if (wrong !== undefined) {
    throw new ValueError(
      `Expected the training state of ${expected.length} weights, ${expected[wrong] ?? 'no more'} among them. ` +
        `Received: ${received.length}, with ${received[wrong] ?? 'nothing'} in its place.`,
    );
  }
  if (kept.className !== classOf(optimizer)) {
    throw new ValueError(
      `Expected the training state of ${classOf(optimizer)}. Received that of ${kept.className}. Compile with the ` +
        'optimizer that the run began with.',
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
  const state = kept.tensors.map(item => ({name: item.name, tensor: next(item)}));
  try {
    await optimizer.setWeights(state);
    weights.forEach((weight, i) => weight.write(values[i]!));
  } finally {
    tf.dispose([values, state.map(({tensor}) => tensor)]);
  }
  return position;
}

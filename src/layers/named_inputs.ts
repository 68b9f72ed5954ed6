/** Inputs of models by name: what users give, checked, as the tensors that tfjs wants. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';

/** Tensors by input name, in the order of the model's inputs, or nested arrays of numbers by name. */
export type ModelInputs = tf.Tensor | tf.Tensor[] | Record<string, tf.Tensor | tf.TensorLike>;

/** What is asked of a model here. */
export type ModelWithInputs = Pick<tf.LayersModel, 'inputNames' | 'inputs'>;

/** Inputs that have an entry for each token. */
const PER_TOKEN = ['token_ids', 'padding_mask', 'vision_mask'];

/**
 * The inputs as tfjs wants them, and those of them that were made for it: the caller disposes these.
 *
 * @throws ValueError on missing, unknown or unusable inputs, and on shapes that do not fit each other.
 */
export function inputTensors(model: ModelWithInputs, x: ModelInputs): {tensors: tf.Tensor[]; made: tf.Tensor[]} {
  const names = model.inputNames;
  const given = byName(names, x);
  const made: tf.Tensor[] = [];
  try {
    const tensors = names.map((name, i) => {
      const value = given[name];
      if (value instanceof tf.Tensor) return value;
      const dtype = model.inputs[i]!.dtype as 'int32' | 'float32';
      const tensor = nestedTensor(name, value, dtype);
      made.push(tensor);
      return tensor;
    });
    checkShapes(model, tensors);
    return {tensors, made};
  } catch (error) {
    tf.dispose(made);
    throw error;
  }
}

function byName(names: readonly string[], x: ModelInputs): Record<string, unknown> {
  if (x instanceof tf.Tensor) x = [x];
  if (Array.isArray(x)) {
    const strange = x.find(tensor => !(tensor instanceof tf.Tensor));
    if (x.length !== names.length || strange !== undefined) {
      throw new ValueError(
        `Expected ${names.length} inputs: ${names.join(', ')}. Received: ` +
          `${strange === undefined ? x.length : show(strange)}. Give numbers by name: {${names.join(', ')}}.`,
      );
    }
    return Object.fromEntries(x.map((tensor, i) => [names[i]!, tensor]));
  }
  const given = typeof x === 'object' && x !== null ? Object.keys(x) : [];
  if (given.length !== names.length || !names.every(name => given.includes(name))) {
    const received = given.join(', ') || (typeof x === 'object' && x !== null ? 'none' : show(x));
    const vision = names.includes('images') && !given.includes('images');
    throw new ValueError(
      `Expected inputs ${names.join(', ')}. Received: ${received}.` +
        (vision
          ? ' For text alone give images (B, 0, S, S, 3), vision_indices (B, 0) and a vision_mask of zeros.'
          : ''),
    );
  }
  return x;
}

const isRow = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

/**
 * A tensor of nested arrays, whose rows may be typed arrays. tfjs reads the shape from the first row of each axis alone,
 * and takes the others as they come.
 */
function nestedTensor(name: string, value: unknown, dtype: 'int32' | 'float32'): tf.Tensor {
  const refuse = (received: string, advice: string): never => {
    const numbers = dtype === 'int32' ? 'whole numbers' : 'numbers';
    throw new ValueError(
      `Expected \`${name}\` as a tensor or as nested arrays of ${numbers}. Received: ${received}. ${advice}`,
    );
  };
  const shape: number[] = [];
  for (let row = value; isRow(row); row = row[0]) shape.push(row.length);
  const values = new (dtype === 'int32' ? Int32Array : Float32Array)(tf.util.sizeFromShape(shape));
  let filled = 0;
  const take = (part: unknown, axis: number): void => {
    if (axis === shape.length) {
      const fits = dtype === 'int32' ? Number.isSafeInteger(part) : typeof part === 'number';
      if (!fits && typeof part !== 'boolean') {
        refuse(isRow(part) ? 'rows of different depth' : show(part), 'Give numbers alone.');
      }
      values[filled++] = Number(part);
      return;
    }
    if (!isRow(part)) return refuse('rows of different depth', 'Give each sample as one row.');
    if (part.length !== shape[axis]) {
      const lengths = `${shape[axis]} and ${part.length} elements side by side`;
      return refuse(lengths, 'Pad rows to one length, with 0 in padding_mask where a row is padded.');
    }
    for (let i = 0; i < part.length; i++) take(part[i], axis + 1);
  };
  take(value, 0);
  return tf.tensor(values, shape, dtype);
}

/** The text of all shapes, for errors about several of them. */
const shapesOf = (names: readonly string[], tensors: readonly tf.Tensor[]) =>
  names.map((name, i) => `${name} [${tensors[i]!.shape}]`).join(', ');

function checkShapes(model: ModelWithInputs, tensors: readonly tf.Tensor[]): void {
  const names = model.inputNames;
  model.inputs.forEach(({shape: expected}, i) => {
    const {shape} = tensors[i]!;
    const fits = (size: number | null, axis: number) => size === null || size === shape[axis];
    if (shape.length !== expected.length || !expected.every(fits)) {
      const axes = expected.map((size, axis) => size ?? (axis === 0 ? 'batch' : 'any'));
      throw new ValueError(
        `Expected \`${names[i]}\` of rank ${expected.length}, (${axes.join(', ')}). Received: shape [${shape}].` +
          (shape.length === expected.length - 1 ? ' Give one sample as a batch of one: put it in an array.' : ''),
      );
    }
  });
  const [batch] = tensors[0]!.shape;
  if (tensors.some(({shape}) => shape[0] !== batch)) {
    throw new ValueError(`Expected one batch size for all inputs. Received: ${shapesOf(names, tensors)}.`);
  }
  const perToken = names.flatMap((name, i) => (PER_TOKEN.includes(name) ? [i] : []));
  if (perToken.some(i => tensors[i]!.shape[1] !== tensors[perToken[0]!]!.shape[1])) {
    const some = perToken.map(i => names[i]!);
    throw new ValueError(
      `Expected ${some.join(', ')} of one shape (batch, length). Received: ${shapesOf(
        some,
        perToken.map(i => tensors[i]!),
      )}.`,
    );
  }
  if (perToken.some(i => tensors[i]!.size === 0)) {
    throw new ValueError(
      `Expected at least one row, and one token in each. Received: ${shapesOf(names, tensors)}. ` +
        'A text without words still has its start token.',
    );
  }
}

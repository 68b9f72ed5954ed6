/** Model inputs by name: checks what users pass, and converts it to the tensors that tfjs needs. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';

/** Tensors in the order of the model's inputs, or tensors or nested arrays of numbers by input name. */
export type ModelInputs = tf.Tensor | tf.Tensor[] | Record<string, tf.Tensor | tf.TensorLike>;

/** The part of a model that is needed here. */
export type ModelWithInputs = Pick<tf.LayersModel, 'inputNames' | 'inputs'>;

/** Inputs with one entry per token. */
const PER_TOKEN = ['token_ids', 'padding_mask', 'vision_mask'];

/**
 * Returns the inputs as tensors, in the order of the model. The caller disposes `created`, the ones that were created
 * here.
 *
 * @throws ValueError on missing, unknown or invalid inputs, and on shapes that do not fit each other.
 */
export function inputTensors(model: ModelWithInputs, x: ModelInputs): {tensors: tf.Tensor[]; created: tf.Tensor[]} {
  const names = model.inputNames;
  const given = byName(names, x);
  const created: tf.Tensor[] = [];
  try {
    const tensors = names.map((name, i) => {
      const value = given[name];
      if (value instanceof tf.Tensor) return value;
      const dtype = model.inputs[i]!.dtype as 'int32' | 'float32';
      const tensor = nestedTensor(name, value, dtype);
      created.push(tensor);
      return tensor;
    });
    checkShapes(model, tensors);
    return {tensors, created};
  } catch (error) {
    tf.dispose(created);
    throw error;
  }
}

function byName(names: readonly string[], x: ModelInputs): Record<string, unknown> {
  if (x instanceof tf.Tensor) x = [x];
  if (Array.isArray(x)) {
    const invalid = x.find(tensor => !(tensor instanceof tf.Tensor));
    if (x.length !== names.length || invalid !== undefined) {
      throw new ValueError(
        `Expected ${names.length} inputs: ${names.join(', ')}. Received: ` +
          `${invalid === undefined ? x.length : show(invalid)}. Pass numbers by name: {${names.join(', ')}}.`,
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
          ? ' For text without images, pass images (B, 0, S, S, 3), vision_indices (B, 0) and a vision_mask of zeros.'
          : ''),
    );
  }
  return x;
}

const isRow = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

/** Larger whole numbers would wrap around in an int32 tensor, to other valid tokens. */
const isInt32 = (value: unknown) => typeof value === 'number' && value === (value | 0);

/**
 * Creates a tensor from nested arrays, whose rows may be typed arrays. Checks all rows, whereas tfjs takes the shape
 * from the first row of each axis and does not check the others.
 *
 * @throws ValueError on rows of different lengths or depths, and on values that are not numbers of this type.
 */
export function nestedTensor(name: string, value: unknown, dtype: 'int32' | 'float32'): tf.Tensor {
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
      const fits = dtype === 'int32' ? isInt32(part) : typeof part === 'number';
      if (!fits && typeof part !== 'boolean') {
        const advice = Number.isSafeInteger(part) ? 'Pass only numbers of 32 bits.' : 'Pass only numbers.';
        refuse(isRow(part) ? 'rows of different depths' : show(part), advice);
      }
      values[filled++] = Number(part);
      return;
    }
    if (!isRow(part)) return refuse('rows of different depths', 'Pass each sample as one row.');
    if (part.length !== shape[axis]) {
      const lengths = `${shape[axis]} and ${part.length} elements in rows along one axis`;
      return refuse(lengths, 'Pad all rows to the same length, with 0 in padding_mask where a row is padded.');
    }
    for (let i = 0; i < part.length; i++) take(part[i], axis + 1);
  };
  take(value, 0);
  return tf.tensor(values, shape, dtype);
}

/** The shapes of several inputs, for error messages. */
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
          (shape.length === expected.length - 1 ? ' Pass one sample as a batch of one: put it in an array.' : ''),
      );
    }
  });
  const [batch] = tensors[0]!.shape;
  if (tensors.some(({shape}) => shape[0] !== batch)) {
    throw new ValueError(`Expected the same batch size for all inputs. Received: ${shapesOf(names, tensors)}.`);
  }
  const perToken = names.flatMap((name, i) => (PER_TOKEN.includes(name) ? [i] : []));
  if (perToken.some(i => tensors[i]!.shape[1] !== tensors[perToken[0]!]!.shape[1])) {
    const wrong = perToken.map(i => names[i]!);
    throw new ValueError(
      `Expected ${wrong.join(', ')} with the same shape (batch, length). Received: ${shapesOf(
        wrong,
        perToken.map(i => tensors[i]!),
      )}.`,
    );
  }
  if (perToken.some(i => tensors[i]!.size === 0)) {
    throw new ValueError(
      `Expected at least one row, and one token in each. Received: ${shapesOf(names, tensors)}. ` +
        'Even an empty text has its start token.',
    );
  }
}

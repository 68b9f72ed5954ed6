/** Model inputs by name: checks what users pass, and converts it to the tensors that tfjs needs. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {isShapedArray} from '../base/nested_array';
import {type NestedArray, type ShapedArray, type TensorOrArray, toTensor} from './tensor_like';

/**
 * Inputs by name, as tensors or arrays of numbers; or tensors in the order of the model's inputs. A model with one input
 * also takes its numbers without a name. A single sample may come without the first axis: it is a batch of one.
 */
export type ModelInputs =
  | {readonly [inputName: string]: TensorOrArray | undefined}
  | tf.Tensor
  | readonly tf.Tensor[]
  | ShapedArray
  | readonly NestedArray[];

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
    const tensors = batched(
      model,
      names.map((name, i) => toTensor(name, given[name], model.inputs[i]!.dtype as 'int32' | 'float32', created)),
      created,
    );
    checkShapes(model, tensors);
    return {tensors, created};
  } catch (error) {
    tf.dispose(created);
    throw error;
  }
}

/** One sample without the first axis in all of its inputs, as a preprocessor returns it, as a batch of one. */
function batched(model: ModelWithInputs, tensors: tf.Tensor[], created: tf.Tensor[]): tf.Tensor[] {
  if (!model.inputs.every(({shape}, i) => tensors[i]!.rank === shape.length - 1)) return tensors;
  const rows = tensors.map(tensor => tf.expandDims(tensor, 0));
  created.push(...rows);
  return rows;
}

function byName(names: readonly string[], x: ModelInputs): Record<string, unknown> {
  if (x instanceof tf.Tensor || isShapedArray(x)) x = [x as tf.Tensor];
  if (Array.isArray(x)) {
    const [only] = names;
    const numbers = names.length === 1 && !x.some(value => value instanceof tf.Tensor || isShapedArray(value));
    if (numbers) return {[only!]: x};
    if (names.length === 1 && x.length === 1) return {[only!]: x[0] as unknown};
    // Arrays of numbers are not accepted: two rows of token ids would look like two inputs.
    const list = x as readonly unknown[];
    const invalid = list.find(tensor => !(tensor instanceof tf.Tensor));
    if (list.length !== names.length || invalid !== undefined) {
      throw new ValueError(
        `Expected ${names.length} inputs: ${names.join(', ')}. Received: ` +
          `${invalid === undefined ? list.length : show(invalid)}. Pass numbers by name: {${names.join(', ')}}.`,
      );
    }
    return Object.fromEntries(list.map((tensor, i) => [names[i]!, tensor]));
  }
  const named = typeof x === 'object' && x !== null ? (x as Record<string, unknown>) : {};
  const given = Object.keys(named).filter(name => named[name] !== undefined);
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
  return named;
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

/** Numbers as nested arrays, or as one array with a shape: accepted wherever a tensor is. */
import {show, ValueError} from './errors';

/** An array of numbers of one type. */
export type NumberArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | Uint8Array
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Numbers in rows that all have the same length, in any depth: `[[2, 651], [2, 7]]`. Rows may be typed arrays. */
export type NestedArray = number | bigint | boolean | NumberArray | readonly NestedArray[];

/** Numbers one after another, the last axis first: `{data: Int32Array.of(2, 651, 2, 7), shape: [2, 2]}`. */
export interface ShapedArray {
  /** As many numbers as the shape has elements. */
  readonly data: NumberArray | readonly (number | boolean)[];
  /** Size of each axis. */
  readonly shape: readonly number[];
}

/** Numbers that were read from nested arrays. */
export interface NumbersWithShape<V = Int32Array | Float32Array> {
  readonly values: V;
  readonly shape: readonly number[];
}

/** Whether a value is an array of numbers of one type. */
export const isNumberArray = (value: unknown): value is NumberArray =>
  ArrayBuffer.isView(value) && !(value instanceof DataView);

const isRow = (value: unknown): value is ArrayLike<unknown> => Array.isArray(value) || isNumberArray(value);

/** Whether a value is one array with its shape. Tensors have no `data` that is an array. */
export const isShapedArray = (value: unknown): value is ShapedArray =>
  typeof value === 'object' &&
  value !== null &&
  isRow((value as Partial<ShapedArray>).data) &&
  Array.isArray((value as Partial<ShapedArray>).shape);

/** Number of axes of an array with a shape, or of nested arrays that hold numbers; undefined for anything else. */
export function arrayRank(value: unknown): number | undefined {
  if (isShapedArray(value)) return value.shape.length;
  let rank = 0;
  while (Array.isArray(value)) [value, rank] = [(value as unknown[])[0], rank + 1];
  if (isNumberArray(value)) return rank + 1;
  return rank > 0 && typeof value === 'number' ? rank : undefined;
}

/** Larger whole numbers would wrap around in 32 bits, to other valid tokens. */
const isInt32 = (value: unknown) => typeof value === 'number' && value === (value | 0);

/**
 * Reads numbers from nested arrays, or from one array with a shape. Checks all rows.
 *
 * @param name what the numbers are, for errors: the name of an argument.
 * @throws ValueError on rows of different lengths or depths, naming their places, and on values that are not numbers of
 * this type.
 */
export function readNumbers(name: string, value: unknown, dtype: 'int32' | 'float32'): NumbersWithShape {
  const refuse = (received: string, advice: string): never => {
    const numbers = dtype === 'int32' ? 'whole numbers' : 'numbers';
    throw new ValueError(
      `Expected \`${name}\` as a tensor, as nested arrays of ${numbers}, or as {data, shape}. ` +
        `Received: ${received}. ${advice}`,
    );
  };
  /** An element as it is written in an error: `token_ids[0][2]`. */
  const at = (place: readonly number[]) => `${name}${place.map(i => `[${i}]`).join('')}`;
  const toNumber = (part: unknown, place: readonly number[]): number => {
    const number = typeof part === 'bigint' || typeof part === 'boolean' ? Number(part) : part;
    if (dtype === 'int32' ? isInt32(number) : typeof number === 'number') return number as number;
    const advice = Number.isSafeInteger(number) ? 'Pass only numbers of 32 bits.' : 'Pass only numbers.';
    return refuse(place.length > 0 ? `${show(part)} at ${at(place)}` : show(part), advice);
  };
  const filled = (size: number) => new (dtype === 'int32' ? Int32Array : Float32Array)(size);

  if (isShapedArray(value)) {
    const {data, shape} = value;
    const size = shape.every(axis => Number.isSafeInteger(axis) && axis >= 0) ? shape.reduce((a, b) => a * b, 1) : NaN;
    if (data.length !== size) {
      refuse(`${data.length} elements and the shape ${show(shape)}`, 'Pass as many elements as the shape has places.');
    }
    const values = filled(size);
    for (let i = 0; i < size; i++) values[i] = toNumber(data[i], [i]);
    return {values, shape};
  }

  const shape: number[] = [];
  for (let row = value; isRow(row); row = row[0]) shape.push(row.length);
  const values = filled(shape.reduce((a, b) => a * b, 1));
  const place: number[] = [];
  let count = 0;
  const take = (part: unknown): void => {
    const axis = place.length;
    if (axis === shape.length) {
      if (isRow(part)) {
        refuse(`an array at ${at(place)}, but a number at ${at(place.map(() => 0))}`, 'Pass all rows in one depth.');
      }
      values[count++] = toNumber(part, place);
      return;
    }
    if (!isRow(part)) {
      return refuse(
        `${show(part)} at ${at(place)}, but an array at ${at(place.map(() => 0))}`,
        'Pass each sample as one row.',
      );
    }
    if (part.length !== shape[axis]) {
      return refuse(
        `${at(place.map(() => 0))} of length ${shape[axis]}, but ${at(place)} of length ${part.length}`,
        'Make all rows equally long: pad token ids, with 0 in padding_mask where they are padded.',
      );
    }
    for (let i = 0; i < part.length; i++) {
      place.push(i);
      take(part[i]);
      place.pop();
    }
  };
  take(value);
  return {values, shape};
}

/** The parts of an array with a shape along its first axis, which share its numbers. */
export function partsOf({data, shape}: ShapedArray): ShapedArray[] {
  const [count = 0, ...rest] = shape;
  const size = rest.reduce((a, b) => a * b, 1);
  const slice = (from: number, to: number) =>
    Array.isArray(data) ? data.slice(from, to) : (data as NumberArray).subarray(from, to);
  return Array.from({length: count}, (_, i) => ({data: slice(i * size, (i + 1) * size), shape: rest}));
}

/**
 * Kernels as Keras' `quantize` leaves them: integers, with scales next to them in the group `vars`. The values equal
 * those that Keras computes, bit for bit.
 */
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {type Hdf5Dataset} from '../../formats/hdf5';
import {type NamedWeight} from '../foreign_names';
import {type Scratch} from '../stored_array';
import {type StoredVariable} from '../stored_weights';
import {IntegerKernelStream, type KernelLayout} from './quantized_stream';

/** The datasets of one kernel. */
export interface QuantizedParts {
  readonly kernel: Hdf5Dataset;
  readonly scale: Hdf5Dataset;
  /** For scales of blocks of inputs: the integer that stands for zero, and the number of the block of each input. */
  readonly blocks?: {readonly zero: Hdf5Dataset; readonly groups: Hdf5Dataset};
}

/** The datasets of a group `vars`, by their role. */
export interface SortedGroup {
  readonly quantized?: QuantizedParts;
  readonly bias?: Hdf5Dataset;
  /** Why the kernel cannot be read, and the dataset that is listed for it. */
  readonly refused?: {readonly kernel: Hdf5Dataset; readonly mode: string};
}

const isFloat = (dataset: Hdf5Dataset | undefined): boolean => /^b?float/.test(dataset?.dtype ?? '');

/**
 * Recognizes a quantized kernel from the datasets of its group, in the order of their numbers.
 *
 * @returns undefined if nothing in the group is quantized.
 */
export function sortGroup(datasets: readonly Hdf5Dataset[]): SortedGroup | undefined {
  const [first, second] = datasets;
  if (!first) return undefined;
  // GPTQ and AWQ save the bias first. After the kernel are scales and numbers of groups, and of AWQ another scale.
  const at = datasets.findIndex(({dtype}) => dtype === 'uint8');
  if (at === 0 || at === 1) {
    const mode = datasets.slice(at).filter(isFloat).length > 2 ? 'AWQ' : 'GPTQ';
    return {refused: {kernel: datasets[at]!, mode}, ...(at === 1 && {bias: first})};
  }
  // After kernel and bias, float8 has a scale and its history for inputs, kernel and gradients.
  const rest = datasets.slice(-6);
  if (datasets.length > 6 && datasets.length < 9 && rest.every(({shape}, i) => shape.length === i % 2)) {
    return {refused: {kernel: first, mode: 'float8'}, ...(datasets.length === 8 && {bias: second!})};
  }
  if (first.dtype !== 'int8' || datasets.length < 2 || datasets.length > 5) return undefined;
  const hasBias = datasets.length % 2 === 1;
  const [scale, zero, groups] = datasets.slice(hasBias ? 2 : 1);
  if (!isFloat(scale) || (hasBias && !isFloat(second))) return undefined;
  const bias = hasBias ? {bias: second!} : {};
  if (!zero) return {quantized: {kernel: first, scale: scale!}, ...bias};
  if (zero.dtype !== 'int8' || zero.shape.join() !== scale!.shape.join() || !isFloat(groups)) return undefined;
  return {quantized: {kernel: first, scale: scale!, blocks: {zero, groups: groups!}}, ...bias};
}

const half = (count: number) => Math.ceil(count / 2);

/**
 * How integers and scales form a weight; undefined if they do not.
 *
 * Keras calls the axes of a kernel over which a product sums its rows, and the others its columns. For `[heads, inputs,
 * width]` these are the inputs, and for all other kernels all axes but the last. Each column has a scale. int4 is
 * stored as a matrix with these rows and columns, with the values in the kernel's order.
 */
function layoutOf({kernel, scale, blocks}: QuantizedParts, weight: NamedWeight): KernelLayout | undefined {
  const {shape} = weight;
  const inner = shape.at(-1)!;
  const scales = sizeOf(scale.shape);
  const groups = blocks && sizeOf(blocks.groups.shape);
  const isWhole = kernel.shape.join() === shape.join();
  const isPacked = (rows: number, columns: number) => kernel.shape.join() === [rows, half(columns)].join();
  if (/embeddings$/.test(weight.originalName)) {
    const rows = sizeOf(shape) / inner;
    // Block scales are used only with two integers per byte.
    const packed = isPacked(rows, inner) && (blocks !== undefined || !isWhole);
    const fits = groups === undefined ? scales === rows : scales % rows === 0 && scales > 0 && groups === inner;
    if (!fits || !(isWhole || packed)) return undefined;
    return {rows, columns: inner, packed, rowStep: scales / rows, columnStep: 0, ...(blocks && {grouped: 'columns'})};
  }
  const [heads, inputs] = shape.length === 3 ? (shape as [number, number]) : [1, 1];
  for (const perHead of shape.length === 3 ? [true, false] : [false]) {
    const columns = perHead ? heads * inner : inner;
    const rows = sizeOf(shape) / columns;
    if (isWhole && groups === undefined && scales === columns) {
      const layout = {rows: sizeOf(shape) / inner, columns: inner, packed: false, columnStep: 1};
      return perHead ? {...layout, rowStep: inner, rowRepeat: inputs} : {...layout, rowStep: 0};
    }
    const fits = groups === undefined ? scales === columns : scales % columns === 0 && scales > 0 && groups === rows;
    if (!fits || !isPacked(rows, columns)) continue;
    const layout = {rows, columns, packed: true, columnStep: 1};
    return groups === undefined ? {...layout, rowStep: 0} : {...layout, rowStep: columns, grouped: 'rows'};
  }
  return undefined;
}

/**
 * The shape under which a kernel is listed. Without the model, it is unknown whether an axis is one shorter than it
 * seems.
 */
function listedShape({kernel, scale, blocks}: QuantizedParts, packed: boolean): readonly number[] {
  if (!packed || kernel.shape.length !== 2) return kernel.shape;
  const [rows, bytes] = kernel.shape as [number, number];
  const across = scale.shape.at(-1)!;
  if (half(across) === bytes && (!blocks || sizeOf(blocks.groups.shape) === rows)) return [rows, across];
  return [rows, blocks ? sizeOf(blocks.groups.shape) : 2 * bytes];
}

/** Whether there are two integers per byte, as far as the file alone tells. */
export function isPacked({kernel, scale, blocks}: QuantizedParts): boolean | undefined {
  if (blocks) return true;
  if (kernel.shape.length !== 2) return false;
  const [rows, bytes] = kernel.shape as [number, number];
  const scales = sizeOf(scale.shape);
  // An embedding has a scale per row, which says nothing about the columns.
  if (scales === rows && /embedding(_\d+)?\/vars\/\d+$/.test(kernel.path)) return undefined;
  return scales !== bytes && half(scales) === bytes;
}

/**
 * A quantized kernel as a variable.
 *
 * @param packed whether it holds two integers per byte, if the file does not tell: other kernels show it.
 */
export function quantizedVariable(
  parts: QuantizedParts,
  file: string,
  packed: boolean,
  scratch: Scratch,
): StoredVariable {
  const {kernel, scale, blocks} = parts;
  const datasets = [scale, ...(blocks ? [blocks.zero, blocks.groups] : []), kernel];
  const common = {
    byteLength: datasets.reduce((sum, {byteLength}) => sum + byteLength, 0),
    file,
    places: datasets.flatMap(({places}) => places),
    quantized: true,
  };
  const shape = listedShape(parts, packed);
  return {
    ...common,
    shape,
    dtype: packed ? 'int4' : 'int8',
    stream: () => {
      throw new Error(`internal: "${kernel.path}" in ${file} is read through the weight that it is for.`);
    },
    fitted: weight => {
      const layout = layoutOf(parts, weight);
      return (
        layout && {
          ...common,
          shape: weight.shape,
          dtype: layout.packed ? 'int4' : 'int8',
          stream: onRead => new IntegerKernelStream(parts, layout, weight.shape, scratch, onRead),
        }
      );
    },
  };
}

/** A kernel that Keras quantized in a way that is not read here. */
export function refusedVariable(
  {path, shape, dtype, byteLength, places}: Hdf5Dataset,
  file: string,
  mode: string,
): StoredVariable {
  const unreadable =
    `was quantized by Keras as ${mode}, which is not read: load the model in Keras before it is quantized, or quantize it ` +
    'as int8 or int4';
  const stream = () => {
    throw new ValueError(`"${path}" in ${file} ${unreadable}.`);
  };
  return {shape, dtype: mode === 'float8' ? mode : dtype, byteLength, file, places, unreadable, stream};
}

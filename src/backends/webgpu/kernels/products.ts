/** Products with dense kernels, packed or float32; unpacking, and lookups. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type PackedFormat, type WeightFormat} from '../../../weights/dtype';
import {type KernelMap} from '../../kernel_map';
import {type Part, type Runner} from '../webgpu_backend';
import {codeTile, CODE_TILE_WEIGHTS, hasCodes} from '../wgsl/code_tile';
import {DIGIT_ROWS, digits, DIGIT_VECTORS} from '../wgsl/digits';
import {embedding} from '../wgsl/elementwise';
import {matTile, matTileTransposed, TILE_ROWS, TILE_WEIGHTS} from '../wgsl/mat_tile';
import {matVec, matVecGroups, MAT_VEC_ROWS, type MatVecVariant} from '../wgsl/mat_vec';
import {gather, unpack, unpackWords} from '../wgsl/unpack';
import {blocksOf, groupBytes} from '../wgsl/weights';
import {kernel} from './kernel';

/** A dense kernel as a matrix W (rows, columns). */
export interface Matrix {
  readonly tensor: TensorInfo;
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
  /** Of a float32 kernel (rows / inner, columns, inner). */
  readonly inner: number;
}

const ROW_GROUP = 8;
/** Parts begin at multiples of this many groups, which are multiples of 256 bytes in every format. */
const PART_GROUPS = 16;

/** A part of a matrix that a program can bind at once. */
interface MatrixPart {
  readonly w: Part | TensorInfo;
  /** The first row, and the number of rows. */
  readonly first: number;
  readonly rows: number;
}

/** Whether a program can bind all of it. */
export const isWhole = ({device}: Runner, {tensor}: Matrix): boolean =>
  4 * sizeOf(tensor.shape) <= device.limits.maxStorageBufferBindingSize;

/** Parts that are not larger than the device can bind. A float32 kernel is always one. */
function* partsOf(backend: Runner, matrix: Matrix): Generator<MatrixPart> {
  const {tensor, format, rows, columns} = matrix;
  if (format === 'float32' || isWhole(backend, matrix)) {
    yield {w: tensor, first: 0, rows};
    return;
  }
  const bytes = groupBytes(format, columns);
  const groups = Math.ceil(rows / ROW_GROUP);
  const step = Math.floor(backend.device.limits.maxStorageBufferBindingSize / bytes / PART_GROUPS) * PART_GROUPS;
  for (let group = 0; group < groups; group += step) {
    const count = Math.min(step, groups - group);
    const first = group * ROW_GROUP;
    yield {
      w: {tensor, offset: group * bytes, bytes: count * bytes},
      first,
      rows: Math.min(rows - first, count * ROW_GROUP),
    };
  }
}

/** The variant for a product of at most {@link MAT_VEC_ROWS} rows. */
export function matVecVariant(
  {lanes}: Pick<Runner, 'lanes'>,
  formats: readonly WeightFormat[],
  count: number,
  columns: number,
): MatVecVariant {
  let splits = 32;
  while (splits > 1 && splits > blocksOf(columns)) splits /= 2;
  const width = count > 4 ? 8 : count > 2 ? 4 : count;
  return {formats, width, splits, whole: columns % 32 === 0, lanes};
}

/** Workgroups for the rows of a matrix. */
export const matVecWorkgroups = (rows: number, variant: MatVecVariant): number =>
  Math.ceil(rows / (ROW_GROUP * matVecGroups(variant)));

/** x (count, columns) as digits. */
function digitsOf(backend: Runner, x: TensorInfo, columns: number): TensorInfo {
  const count = sizeOf(x.shape) / columns;
  const blocks = blocksOf(columns);
  const units = Math.ceil(count / DIGIT_ROWS) * blocks;
  const y = backend.empty([units, 4 * DIGIT_VECTORS], 'int32');
  backend.run(digits, {tensors: [x, y], numbers: {count, columns, blocks}, groups: Math.ceil(units / 8)});
  return y;
}

/** The target of a product: columns of a tensor (count, width), beginning at `first`. */
interface Place {
  readonly y: TensorInfo;
  readonly first: number;
  readonly width: number;
}

/** y (count, rows) = x (count, columns) · Wᵀ, a new tensor unless there is a place for it. */
export function multiply(backend: Runner, x: TensorInfo, matrix: Matrix, place?: Place): TensorInfo {
  const {format, rows, columns, inner} = matrix;
  const count = sizeOf(x.shape) / columns;
  const y = place?.y ?? backend.empty([count, rows]);
  if (count * rows === 0) return y;
  const tile = count > MAT_VEC_ROWS && hasCodes(format) ? backend.codeTiles[format] : undefined;
  const from = tile === 'dot' ? digitsOf(backend, x, columns) : x;
  for (const {w, first, rows: own} of partsOf(backend, matrix)) {
    const to = {rows: place?.width ?? rows, first: first + (place?.first ?? 0)};
    const numbers = {...to, columns, blocks: blocksOf(columns), count};
    const tensors = [from, w, y];
    if (count <= MAT_VEC_ROWS) {
      const variant = matVecVariant(backend, [format], count, columns);
      const more = {w0Rows: own, w0Inner: inner, epsilon: 0};
      backend.run(matVec(variant), {tensors, numbers: {...numbers, ...more}, groups: matVecWorkgroups(own, variant)});
    } else {
      const across = Math.ceil(own / (tile ? CODE_TILE_WEIGHTS[tile] : TILE_WEIGHTS));
      const more = {wRows: own, wInner: inner, across};
      const groups = across * Math.ceil(count / TILE_ROWS);
      const program = tile && hasCodes(format) ? codeTile(format, tile) : matTile(format);
      backend.run(program, {tensors, numbers: {...numbers, ...more}, groups});
    }
  }
  if (from !== x) backend.disposeData(from.dataId);
  return y;
}

/** y (count, columns) = x (count, rows) · W */
function multiplyTransposed(backend: Runner, x: TensorInfo, matrix: Matrix): TensorInfo {
  const {format, rows, columns, inner} = matrix;
  const [count] = x.shape as [number, number];
  const y = backend.empty([count, columns]);
  if (count * columns === 0) return y;
  const across = Math.ceil(columns / TILE_WEIGHTS);
  for (const {w, first, rows: own} of partsOf(backend, matrix)) {
    const numbers = {rows, columns, blocks: blocksOf(columns), first, count, across, wRows: own, wInner: inner};
    backend.run(matTileTransposed(format), {
      tensors: [x, w, y],
      numbers,
      groups: across * Math.ceil(count / TILE_ROWS),
    });
  }
  return y;
}

interface Size {
  rows: number;
  columns: number;
  format: PackedFormat;
}

/** [outer, columns, inner] */
function floatMatrix(tensor: TensorInfo): Matrix {
  const [outer, columns, inner] = tensor.shape as [number, number, number];
  return {tensor, format: 'float32', rows: outer * inner, columns, inner};
}

const unpackKernel = kernel<'bits', Size>((backend, {bits}, size) => {
  const {rows, columns, format} = size;
  const y = backend.empty([rows, columns]);
  if (rows * columns === 0) return y;
  const blocks = blocksOf(columns);
  for (const {w, first, rows: own} of partsOf(backend, {tensor: bits, inner: 1, ...size})) {
    const numbers = {columns, blocks, first, wRows: own, wInner: 1};
    const groups = Math.ceil((Math.ceil(own / ROW_GROUP) * blocks) / 8);
    backend.run(unpack(format), {tensors: [w, y], numbers, groups});
  }
  return y;
});

/** Rows of W by their ids, times a factor → y (count, columns). */
export function lookUp(
  backend: Runner,
  ids: TensorInfo,
  {tensor, format, rows, columns}: Omit<Matrix, 'inner'>,
  factor = 1,
): TensorInfo {
  const count = sizeOf(ids.shape);
  const y = backend.empty([count, columns]);
  if (count * columns === 0) return y;
  if (format === 'float32') {
    const numbers = {count: count * columns, width: columns, rows, factor};
    backend.run(embedding, {tensors: [tensor, ids, y], numbers, groups: Math.ceil((count * columns) / 64)});
    return y;
  }
  const blocks = blocksOf(columns);
  for (const {w, first, rows: own} of partsOf(backend, {tensor, inner: 1, rows, columns, format})) {
    const numbers = {count, columns, blocks, first, rows, factor, wRows: own, wInner: 1};
    backend.run(gather(format), {tensors: [w, ids, y], numbers, groups: Math.ceil((count * blocks) / 16)});
  }
  return y;
}

const unpackWordsKernel = kernel<'bits'>((backend, {bits}) => {
  const [rows, words] = bits.shape as [number, number];
  const y = backend.empty([rows, 2 * words]);
  const count = rows * words;
  backend.run(unpackWords, {tensors: [bits, y], numbers: {count}, groups: Math.ceil(count / 64)});
  return y;
});

export const productKernels: KernelMap = {
  Gemma3UnpackBfloat16: unpackWordsKernel,
  Gemma3UnpackP8: unpackKernel,
  // A packed matrix may have more rows than there are ids.
  Gemma3GatherP8: kernel<'bits' | 'ids', Omit<Size, 'rows'>>((backend, {bits, ids}, {columns, format}) =>
    lookUp(backend, ids, {tensor: bits, format, rows: bits.shape[0]! * ROW_GROUP, columns}),
  ),
  Gemma3MatMulP8: kernel<'x' | 'bits', Size>((backend, {x, bits}, size) =>
    multiply(backend, x, {tensor: bits, inner: 1, ...size}),
  ),
  Gemma3MatMulTransposedP8: kernel<'x' | 'bits', Size>((backend, {x, bits}, size) =>
    multiplyTransposed(backend, x, {tensor: bits, inner: 1, ...size}),
  ),
  Gemma3MatMul: kernel<'x' | 'kernel'>((backend, inputs) => multiply(backend, inputs.x, floatMatrix(inputs.kernel))),
  Gemma3MatMulGradientX: kernel<'dy' | 'kernel'>((backend, inputs) =>
    multiplyTransposed(backend, inputs.dy, floatMatrix(inputs.kernel)),
  ),
  Gemma3Embedding: kernel<'table' | 'ids'>((backend, {table, ids}) => {
    const [rows, columns] = table.shape as [number, number];
    return lookUp(backend, ids, {tensor: table, format: 'float32', rows, columns});
  }),
};

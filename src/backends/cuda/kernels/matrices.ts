/** Products with packed matrices and lookups in them, whatever they rest as. Results are float32. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {BFLOAT16, type Device, FLOAT, INT8, type Matrix, type Program} from '../device';

/**
 * Values of a matrix that are widened at once: on a CPU what stays in its caches, on a GPU what its memory does not
 * notice.
 */
const PIECE = {cpu: 2 ** 20, gpu: 2 ** 26};

const pieceOf = ({backend}: Device): number => (backend.isUsingGpuDevice ? PIECE.gpu : PIECE.cpu);

export function matrixOf({matrices}: Device, {dataId}: TensorInfo): Matrix {
  const matrix = matrices.get(dataId);
  if (!matrix) throw new Error('internal: a packed matrix of another backend.');
  return matrix;
}

/** int8 (rows, blocks, 32) times scales → (rows, columns) */
function scaled(p: Program, integers: number, scales: number, rows: number, columns: number): number {
  const padded = 32 * Math.ceil(columns / 32);
  const whole = p.reshape(p.mul(p.widen(integers, INT8), scales), [rows, padded]);
  return padded === columns ? whole : p.slice(whole, [0, 0], [rows, columns]);
}

/** Rows of a packed matrix, from `first` on, as float32. */
export function rowsOf(p: Program, id: number, {type, scales, columns}: Matrix, first: number, count: number): number {
  const blocks = Math.ceil(columns / 32);
  if (type === FLOAT) return p.slice(id, [first, 0], [count, columns]);
  if (type === BFLOAT16) return p.widen(p.slice(id, [first, 0], [count, columns], BFLOAT16));
  // Slices of rows share the memory of their matrix.
  const integers = p.slice(id, [first, 0, 0], [count, blocks, 32], INT8);
  return scaled(p, integers, p.slice(scales!, [first, 0, 0], [count, blocks, 1]), count, columns);
}

/** A packed matrix (rows, columns). For one that rests as float32, its own handle. */
export function unpacked(p: Program, tensor: TensorInfo): number {
  const matrix = matrixOf(p.device, tensor);
  const id = p.of(tensor);
  if (matrix.type === FLOAT) return id;
  return matrix.type === BFLOAT16 ? p.widen(id) : rowsOf(p, id, matrix, 0, matrix.rows);
}

/** Rows of a matrix that are widened at once: all of one that needs no widening, or that is small. */
function stepOf({device}: Program, {type, rows, columns}: Matrix): number {
  const inParts = type === INT8 || (type === BFLOAT16 && device.rest === FLOAT && rows * columns >= device.large);
  return inParts ? Math.max(1, Math.floor(pieceOf(device) / columns)) : rows;
}

/** Runs a program for some rows of a matrix at a time. Its result outlives it, what else it makes does not. */
function forPieces(
  p: Program,
  tensor: TensorInfo,
  run: (own: Program, rows: number, first: number, count: number) => number,
  take: (result: number) => void,
): void {
  const matrix = matrixOf(p.device, tensor);
  const id = p.of(tensor);
  const step = stepOf(p, matrix);
  for (let first = 0; first < matrix.rows; first += step) {
    const count = Math.min(step, matrix.rows - first);
    const result = p.device.program(
      own => own.release(run(own, rowsOf(own, id, matrix, first, count), first, count)),
      false,
    );
    take(p.own(result));
  }
}

const isWhole = (p: Program, matrix: Matrix): boolean => stepOf(p, matrix) >= matrix.rows;

/**
 * x (M, columns) · Wᵀ → (M, rows)
 *
 * @param count M, if it may be large.
 */
export function multiplyPacked(p: Program, x: number, tensor: TensorInfo, count = 1): number {
  const matrix = matrixOf(p.device, tensor);
  if (isWhole(p, matrix)) return p.timesTransposed(x, unpacked(p, tensor), count);
  const parts: number[] = [];
  forPieces(
    p,
    tensor,
    (own, rows) => own.timesTransposed(x, rows, count),
    part => parts.push(part),
  );
  return p.concatAll(parts, 1);
}

/** dy (M, rows) · W → (M, columns) */
export function multiplyPackedTransposed(p: Program, dy: number, length: number, tensor: TensorInfo): number {
  if (isWhole(p, matrixOf(p.device, tensor))) return p.matMul(dy, unpacked(p, tensor));
  let sum: number | undefined;
  forPieces(
    p,
    tensor,
    (own, rows, first, count) => {
      const product = own.matMul(own.slice(dy, [0, first], [length, count]), rows);
      return sum === undefined ? product : own.add(sum, product);
    },
    next => {
      if (sum !== undefined) p.delete(sum);
      sum = next;
    },
  );
  return sum!;
}

/** The rows with these int32 ids (n) → (n, columns) */
export function lookUpPacked(p: Program, tensor: TensorInfo, ids: number, length: number): number {
  const {type, scales, columns} = matrixOf(p.device, tensor);
  const rows = p.gather(p.of(tensor), ids, type);
  if (type === FLOAT) return rows;
  return type === BFLOAT16 ? p.widen(rows) : scaled(p, rows, p.gather(scales!, ids), length, columns);
}

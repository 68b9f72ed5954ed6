/** Matrix products that read weights in their stored order, without copies. Sums are in double precision. */
import {type KernelFunc, type TensorInfo} from '@tensorflow/tfjs';
import {type KernelMap} from '../../kernel_map';
import {type MathBackendCPU, valuesOf} from '../cpu_backend';

/** Number of rows of x that are multiplied together, so that each weight is read once for all of them. */
const ROWS = 4;

/** sums = x[m] · kernel for a kernel (C, inner), as a sum of the kernel's rows scaled by x. */
function sumRows(
  x: Float32Array,
  columns: number,
  m: number,
  kernel: Float32Array,
  from: number,
  inner: number,
  sums: Float64Array,
): void {
  sums.fill(0);
  for (let c = 0, at = from; c < columns; c++, at += inner) {
    const factor = x[m * columns + c]!;
    if (factor === 0) continue;
    for (let i = 0; i < inner; i++) sums[i]! += factor * kernel[at + i]!;
  }
}

/** Like {@link sumRows}, for four rows of x at once. */
function sumRows4(
  x: Float32Array,
  columns: number,
  m: number,
  kernel: Float32Array,
  from: number,
  inner: number,
  sums: Float64Array,
): void {
  sums.fill(0);
  const [s1, s2, s3] = [inner, 2 * inner, 3 * inner];
  for (let c = 0, at = from; c < columns; c++, at += inner) {
    const x0 = x[m * columns + c]!;
    const x1 = x[(m + 1) * columns + c]!;
    const x2 = x[(m + 2) * columns + c]!;
    const x3 = x[(m + 3) * columns + c]!;
    for (let i = 0; i < inner; i++) {
      const w = kernel[at + i]!;
      sums[i]! += x0 * w;
      sums[s1 + i]! += x1 * w;
      sums[s2 + i]! += x2 * w;
      sums[s3 + i]! += x3 * w;
    }
  }
}

/** x (M, C), kernel (outer, C, inner) → (M, outer · inner) */
const matMulKernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {x, kernel} = inputs as {x: TensorInfo; kernel: TensorInfo};
  const [m, columns] = x.shape as [number, number];
  const [outer, , inner] = kernel.shape as [number, number, number];
  const xs = valuesOf(cpu, x) as Float32Array;
  const ws = valuesOf(cpu, kernel) as Float32Array;
  const width = outer * inner;
  const y = new Float32Array(m * width);
  if (inner === 1) {
    dotRows(xs, m, columns, outer, row => ws.subarray(row * columns, (row + 1) * columns), y);
  } else {
    const sums = new Float64Array(ROWS * inner);
    for (let o = 0; o < outer; o++) {
      for (let row = 0; row < m;) {
        const count = m - row >= ROWS ? ROWS : 1;
        (count === ROWS ? sumRows4 : sumRows)(xs, columns, row, ws, o * columns * inner, inner, sums);
        for (let k = 0; k < count; k++, row++) {
          const to = row * width + o * inner;
          for (let i = 0; i < inner; i++) y[to + i] = sums[k * inner + i]!;
        }
      }
    }
  }
  return cpu.makeTensorInfo([m, width], 'float32', y);
};

/**
 * Sets y (M, rows) to the dot products of x (M, C) with each row of weights. `rowAt` returns a row of C float32 values.
 */
function dotRows(
  x: Float32Array,
  m: number,
  columns: number,
  rows: number,
  rowAt: (row: number) => Float32Array,
  y: Float32Array,
): void {
  const xs = Float64Array.from(x);
  for (let row = 0; row < rows; row++) {
    const w = rowAt(row);
    let k = 0;
    for (; k + ROWS <= m; k += ROWS) dot4(xs, k * columns, columns, w, y, k * rows + row, rows);
    for (; k < m; k++) y[k * rows + row] = dot(xs, k * columns, columns, w);
  }
}

function dot(x: Float64Array, from: number, columns: number, w: Float32Array): number {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  let c = 0;
  for (; c + 4 <= columns; c += 4) {
    s0 += x[from + c]! * w[c]!;
    s1 += x[from + c + 1]! * w[c + 1]!;
    s2 += x[from + c + 2]! * w[c + 2]!;
    s3 += x[from + c + 3]! * w[c + 3]!;
  }
  for (; c < columns; c++) s0 += x[from + c]! * w[c]!;
  return s0 + s1 + s2 + s3;
}

function dot4(
  x: Float64Array,
  from: number,
  columns: number,
  w: Float32Array,
  y: Float32Array,
  to: number,
  stride: number,
): void {
  let [s0, s1, s2, s3] = [0, 0, 0, 0];
  const [f1, f2, f3] = [from + columns, from + 2 * columns, from + 3 * columns];
  for (let c = 0; c < columns; c++) {
    const value = w[c]!;
    s0 += x[from + c]! * value;
    s1 += x[f1 + c]! * value;
    s2 += x[f2 + c]! * value;
    s3 += x[f3 + c]! * value;
  }
  y[to] = s0;
  y[to + stride] = s1;
  y[to + 2 * stride] = s2;
  y[to + 3 * stride] = s3;
}

/** x (M, C), bits (R, words) → (M, R). Each row of weights is widened once, into a small buffer. */
const matMulBfloat16Kernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {x, bits} = inputs as {x: TensorInfo; bits: TensorInfo};
  const [m, columns] = x.shape as [number, number];
  const [rows, words] = bits.shape as [number, number];
  const packed = valuesOf(cpu, bits) as Int32Array;
  const y = new Float32Array(m * rows);
  const wide = new Int32Array(2 * words);
  const row = new Float32Array(wide.buffer);
  const widen = (index: number) => {
    for (let k = 0, at = index * words; k < words; k++) {
      const word = packed[at + k]!;
      wide[2 * k] = word << 16;
      wide[2 * k + 1] = word & 0xffff0000;
    }
    return row;
  };
  const xs = valuesOf(cpu, x) as Float32Array;
  if (m === 1) dotRowsBfloat16(xs, packed, rows, words, y);
  else dotRows(xs, m, columns, rows, widen, y);
  return cpu.makeTensorInfo([m, rows], 'float32', y);
};

/**
 * For one row of x. Each weight is used once, so weights are widened eight at a time, right before use. This is twice
 * as fast as widening whole rows, because the eight values stay in the innermost cache. Rows are zero-padded to
 * multiples of eight.
 */
function dotRowsBfloat16(x: Float32Array, packed: Int32Array, rows: number, words: number, y: Float32Array): void {
  const xs = new Float64Array(2 * words);
  xs.set(x);
  const wide = new Int32Array(8);
  const w = new Float32Array(wide.buffer);
  for (let row = 0, at = 0; row < rows; row++) {
    let [s0, s1, s2, s3] = [0, 0, 0, 0];
    for (let c = 0; c < 2 * words; c += 8, at += 4) {
      const [a, b, d, e] = [packed[at]!, packed[at + 1]!, packed[at + 2]!, packed[at + 3]!];
      wide[0] = a << 16;
      wide[1] = a & 0xffff0000;
      wide[2] = b << 16;
      wide[3] = b & 0xffff0000;
      wide[4] = d << 16;
      wide[5] = d & 0xffff0000;
      wide[6] = e << 16;
      wide[7] = e & 0xffff0000;
      s0 += xs[c]! * w[0]! + xs[c + 4]! * w[4]!;
      s1 += xs[c + 1]! * w[1]! + xs[c + 5]! * w[5]!;
      s2 += xs[c + 2]! * w[2]! + xs[c + 6]! * w[6]!;
      s3 += xs[c + 3]! * w[3]! + xs[c + 7]! * w[7]!;
    }
    y[row] = s0 + s1 + s2 + s3;
  }
}

/** bits (R, words) → (R, 2 · words) */
const unpackBfloat16Kernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {bits} = inputs as {bits: TensorInfo};
  const [rows, words] = bits.shape as [number, number];
  const packed = valuesOf(cpu, bits) as Int32Array;
  const wide = new Int32Array(2 * packed.length);
  for (let k = 0; k < packed.length; k++) {
    wide[2 * k] = packed[k]! << 16;
    wide[2 * k + 1] = packed[k]! & 0xffff0000;
  }
  return cpu.makeTensorInfo([rows, 2 * words], 'float32', new Float32Array(wide.buffer));
};

export const matMulKernels: KernelMap = {
  Gemma3MatMul: matMulKernel,
  Gemma3MatMulBfloat16: matMulBfloat16Kernel,
  Gemma3UnpackBfloat16: unpackBfloat16Kernel,
};

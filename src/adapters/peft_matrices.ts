/** Converts LoRA's matrices between the shapes of Keras and of PEFT. */
import {type LoraLayer} from '../layers/lora';
import {type Adapter} from '../weights/merged_stream';
import {type LayerAdapter} from './model_lora';

/** PEFT's matrices: A (rank, in) and B (out, rank). */
export interface PeftMatrices {
  readonly rank: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** (rows, columns) → (columns, rows) */
function transposed(values: Float32Array, rows: number, columns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++) result[j * rows + i] = values[i * columns + j]!;
  return result;
}

/**
 * For a kernel (N, D, H) whose heads are outputs: number of heads, inputs, and outputs per head. Undefined for others.
 */
function headsOf(layer: LoraLayer): [heads: number, inputs: number, outputs: number] | undefined {
  const shape = layer.adapted.shape;
  const heads = layer.name === 'query' || layer.name === 'key' || layer.name === 'value';
  return heads ? (shape as [number, number, number]) : undefined;
}

/** Sizes of the matrix that transformers has for this kernel. */
export function matrixSize(layer: LoraLayer): [inputs: number, outputs: number] {
  const heads = headsOf(layer);
  if (heads) return [heads[1], heads[0] * heads[2]];
  const shape = layer.adapted.shape;
  return [shape.slice(0, -1).reduce((x, y) => x * y, 1), shape.at(-1)!];
}

/**
 * From Keras' shapes to PEFT's. Keras has one A per head and one B for all heads; PEFT has one A for all heads. There
 * the same product has rank N · r: all A are stacked, and B is repeated along the diagonal, once per head. Alpha is N
 * times as large. The results of `fromPeft` and `withRank` are converted back to the matrices that they were given.
 */
export function toPeft(layer: LoraLayer, adapter: Adapter): PeftMatrices {
  const [inputs, outputs] = matrixSize(layer);
  const heads = headsOf(layer);
  const common = heads && withoutSelection(adapter, heads);
  if (common) return common;
  const {rank, a, b} = withoutZeros(adapter);
  if (!heads) return {rank, a: transposed(a, inputs, rank), b: transposed(b, rank, outputs)};
  const [count, width, size] = heads;
  const all = count * rank;
  const first = new Float32Array(all * width);
  const second = new Float32Array(outputs * all);
  for (let n = 0; n < count; n++) {
    first.set(transposed(a.subarray(n * width * rank, (n + 1) * width * rank), width, rank), n * rank * width);
    for (let h = 0; h < size; h++) {
      for (let r = 0; r < rank; r++) second[(n * size + h) * all + n * rank + r] = b[r * size + h]!;
    }
  }
  return {rank: all, a: first, b: second};
}

/**
 * From PEFT's shapes to Keras', with the lowest rank that gives the same product. PEFT's B, one block per head, becomes
 * a stack of blocks from which each head's A selects its own: rank N · r. The result of `toPeft` is converted back
 * exactly.
 */
export function fromPeft(layer: LoraLayer, {rank, a, b}: PeftMatrices): PeftMatrices {
  const [inputs, outputs] = matrixSize(layer);
  const heads = headsOf(layer);
  if (!heads) return {rank, a: transposed(a, rank, inputs), b: transposed(b, outputs, rank)};
  const [count, width, size] = heads;
  const own = rank / count;
  if (Number.isInteger(own) && isDiagonal(b, count, size, own)) {
    const first = new Float32Array(count * width * own);
    for (let n = 0; n < count; n++) {
      first.set(transposed(a.subarray(n * own * width, (n + 1) * own * width), own, width), n * width * own);
    }
    const block = new Float32Array(own * size);
    for (let h = 0; h < size; h++) for (let r = 0; r < own; r++) block[r * size + h] = b[h * rank + r]!;
    return {rank: own, a: first, b: block};
  }
  const all = count * rank;
  const first = new Float32Array(count * width * all);
  const second = new Float32Array(all * size);
  for (let n = 0; n < count; n++) {
    for (let r = 0; r < rank; r++) {
      for (let d = 0; d < width; d++) first[(n * width + d) * all + n * rank + r] = a[r * width + d]!;
      for (let h = 0; h < size; h++) second[(n * rank + r) * size + h] = b[(n * size + h) * rank + r]!;
    }
  }
  return {rank: all, a: first, b: second};
}

/** PEFT's matrices, if `fromPeft` made a stack of them, from which heads select their blocks; otherwise undefined. */
function withoutSelection(
  {rank: all, a, b}: PeftMatrices,
  [count, width, size]: readonly [heads: number, inputs: number, outputs: number],
): PeftMatrices | undefined {
  const selects = (rank: number) => {
    for (let n = 0; n < count; n++) {
      for (let d = 0; d < width; d++) {
        for (let column = 0; column < all; column++) {
          const inside = Math.floor(column / rank) === n;
          const wanted = inside ? a[d * all + (column - n * rank)] : 0;
          if (a[(n * width + d) * all + column] !== wanted) return false;
        }
      }
    }
    return b.subarray(count * rank * size).every(value => value === 0);
  };
  for (let rank = 1; rank * count <= all; rank++) {
    if (!selects(rank)) continue;
    const first = new Float32Array(rank * width);
    for (let r = 0; r < rank; r++) for (let d = 0; d < width; d++) first[r * width + d] = a[d * all + r]!;
    const second = new Float32Array(count * size * rank);
    for (let n = 0; n < count; n++) {
      second.set(transposed(b.subarray(n * rank * size, (n + 1) * rank * size), rank, size), n * size * rank);
    }
    return {rank, a: first, b: second};
  }
  return undefined;
}

/** Without what `withRank` adds. A (…, rank), B (rank, last). */
function withoutZeros({rank: all, a, b}: PeftMatrices): PeftMatrices {
  const [rows, size] = [a.length / all, b.length / all];
  const isUnused = (column: number) => {
    for (let row = 0; row < rows; row++) if (a[row * all + column] !== 0) return false;
    return b.subarray(column * size, (column + 1) * size).every(value => value === 0);
  };
  let rank = all;
  while (rank > 1 && isUnused(rank - 1)) rank--;
  if (rank === all) return {rank, a, b};
  const first = new Float32Array(rows * rank);
  for (let row = 0; row < rows; row++) first.set(a.subarray(row * all, row * all + rank), row * rank);
  return {rank, a: first, b: b.subarray(0, rank * size)};
}

/** Matrices in Keras' shapes, with the factor of their product. */
export interface ScaledMatrices extends PeftMatrices {
  readonly layer: LoraLayer;
  readonly scale: number;
}

/** Adapters of one rank and one scale, as all layers of a model have here: matrices are padded and scaled to match. */
export function withOneRank(matrices: readonly ScaledMatrices[]): LayerAdapter[] {
  const rank = Math.max(...matrices.map(({rank}) => rank));
  const {scale} = matrices[0]!;
  return matrices.map(({layer, scale: own, ...rest}) => {
    const {a, b} = withRank(rest, rank);
    return {layer, rank, alpha: scale * rank, a, b: own === scale ? b : b.map(value => value * (own / scale))};
  });
}

/** Whether B (N · H, N · r) repeats one block (H, r) along its diagonal and is 0 elsewhere. */
function isDiagonal(b: Float32Array, heads: number, size: number, rank: number): boolean {
  const all = heads * rank;
  for (let n = 0; n < heads; n++) {
    for (let h = 0; h < size; h++) {
      for (let column = 0; column < all; column++) {
        const inside = Math.floor(column / rank) === n;
        const wanted = inside ? b[h * all + (column % rank)] : 0;
        if (b[(n * size + h) * all + column] !== wanted) return false;
      }
    }
  }
  return true;
}

/** The same product with a higher rank: the matrices are padded with zeros. A (…, rank), B (rank, last). */
export function withRank({rank, a, b}: PeftMatrices, wanted: number): PeftMatrices {
  if (rank === wanted) return {rank, a, b};
  const rows = a.length / rank;
  const first = new Float32Array(rows * wanted);
  for (let row = 0; row < rows; row++) first.set(a.subarray(row * rank, (row + 1) * rank), row * wanted);
  const second = new Float32Array((b.length / rank) * wanted);
  second.set(b);
  return {rank: wanted, a: first, b: second};
}

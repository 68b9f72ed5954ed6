/** Looks up rows of embedding tables, inserts those of images, and unpacks whole weights. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type PackedFormat} from '../../../weights/dtype';
import {valuesOf} from '../../cpu/cpu_backend';
import {type KernelMap} from '../../kernel_map';
import {GatherWord} from '../assembly/layouts/embedding';
import {UnpackWord} from '../assembly/layouts/packing';
import {GATHER, UNPACK} from '../assembly/numbers';
import {type Command, FLOAT32, type NumberType, type PackedType} from '../engine/command';
import {type SimdBackend} from '../memory/simd_backend';
import {TYPES} from '../packing/packing';
import {kernel} from './kernel';

// === Commands ===

export interface UnpackArgs {
  source: number;
  type: PackedType;
  rows: number;
  columns: number;
  /** (rows, columns) */
  target: number;
}

/** Unpacks a weight to float32. */
export function unpack(a: UnpackArgs): Command {
  const words = new Array<number>(UnpackWord.end);
  words[UnpackWord.source] = a.source;
  words[UnpackWord.type] = a.type;
  words[UnpackWord.rows] = a.rows;
  words[UnpackWord.columns] = a.columns;
  words[UnpackWord.target] = a.target;
  return [UNPACK, words];
}

export interface GatherArgs {
  /** Packed, or float32 (rows, columns). */
  table: number;
  type: NumberType;
  columns: number;
  /** int32 (count): row numbers; the operation checks them. */
  ids: number;
  count: number;
  /** (count, columns) */
  target: number;
}

/** Looks up rows of a table. */
export function gather(a: GatherArgs): Command {
  const words = new Array<number>(GatherWord.end);
  words[GatherWord.table] = a.table;
  words[GatherWord.type] = a.type;
  words[GatherWord.columns] = a.columns;
  words[GatherWord.ids] = a.ids;
  words[GatherWord.count] = a.count;
  words[GatherWord.target] = a.target;
  return [GATHER, words];
}

// === Kernels ===

const unpackKernel = kernel<'bits', {rows: number; columns: number; format: PackedFormat}>(
  (backend, inputs, {rows, columns, format}) => {
    const call = backend.call(inputs, {shape: [rows, columns]});
    return call.run(unpack({source: call.at('bits'), type: TYPES[format], rows, columns, target: call.y}));
  },
);

const gatherPackedKernel = kernel<'bits' | 'ids', {columns: number; format: PackedFormat}>(
  (backend, {bits, ids}, {columns, format}) => gatherRows(backend, bits, ids, columns, TYPES[format]),
);

/** Rows of a float32 table (V, D). */
const embeddingKernel = kernel<'table' | 'ids'>((backend, {table, ids}) =>
  gatherRows(backend, table, ids, table.shape[1]!, FLOAT32),
);

function gatherRows(
  backend: SimdBackend,
  table: TensorInfo,
  ids: TensorInfo,
  columns: number,
  type: NumberType,
): TensorInfo {
  const count = ids.shape[0]!;
  const call = backend.call({table, ids}, {shape: [count, columns], preferredBank: ['table']});
  return call.run(gather({table: call.at('table'), type, columns, ids: call.at('ids'), count, target: call.y}));
}

/** text (B, T, D), images (B · K, D), indices (B, K) → (B, T, D). See `ops/interleave.ts`. */
const interleaveKernel = kernel<'text' | 'images' | 'indices'>((backend, {text, images, indices}) => {
  const [, length, width] = text.shape as [number, number, number];
  const perSample = indices.shape[1]!;
  const call = backend.call({text, images}, {shape: text.shape});
  const {floats} = call.words;
  const [y, source, rows] = [call.y / 4, call.at('text') / 4, call.at('images') / 4];
  floats.copyWithin(y, source, source + sizeOf(text.shape));
  valuesOf(backend, indices).forEach((index, i) => {
    // Index 0 is padding.
    if (index === 0) return;
    const row = rows + i * width;
    floats.copyWithin(y + (Math.floor(i / perSample) * length + index) * width, row, row + width);
  });
  return call.run();
});

export const embeddingKernels: KernelMap = {
  Gemma3Interleave: interleaveKernel,
  Gemma3UnpackP8: unpackKernel,
  Gemma3GatherP8: gatherPackedKernel,
  Gemma3Embedding: embeddingKernel,
};

/**
 * Packed weights in the order of the kernels: groups of eight rows interleaved, so that a vector holds four outputs.
 */
import * as tf from '@tensorflow/tfjs';
import {ONE_COPY, ValueError} from '../../../base/errors';
import {sizeOf} from '../../../base/shapes';
import {hostRows} from '../../../ops/bfloat16_rows';
import {type Op, runOp} from '../../../ops/op';
import {type PackedFormat} from '../../../weights/dtype';
import {type KernelLayout, type Packing, type PackingTarget, registerPacking} from '../../../weights/packing';
import {withHostTensors} from '../../cpu/host_packing';
import {BFLOAT16, COLUMN_BLOCK, INT4, INT8, packedBytes, type PackedType, ROW_GROUP} from '../engine/command';
import {hasSimd} from '../engine/has_simd';
import {SimdBackend} from '../memory/simd_backend';
import {pack} from './pack_command';
import {unpackers} from './unpack_reference';

type Bits = {bits: tf.Tensor};
type Size = {rows: number; columns: number; format: PackedFormat};

/**
 * Unpacks a weight, (groups, words) → (rows, columns). The reference is plain tfjs operations, exact on every backend.
 */
export const unpackP8Op: Op<Bits, Size> = {
  name: 'Gemma3UnpackP8',
  reference: ({bits}, {rows, columns, format}) =>
    tf.tidy(() => tf.slice(unpackers[format](bits), [0, 0], [rows, columns])),
};
const unpacked = (bits: tf.Tensor, size: Size) => runOp(unpackP8Op, {bits}, size) as tf.Tensor2D;

/** x (M, columns) · Wᵀ → (M, rows). No gradient for W: it is frozen. */
export const matMulP8Op: Op<Bits & {x: tf.Tensor}, Size> = {
  name: 'Gemma3MatMulP8',
  reference: ({x, bits}, size) => tf.tidy(() => tf.matMul(x as tf.Tensor2D, unpacked(bits, size), false, true)),
  gradient: (dy, {bits}, size) => ({x: () => runOp(matMulTransposedP8Op, {x: dy, bits}, size)}),
  reads: {x: ['bits']},
};

/** dy (M, rows) · W → (M, columns). */
export const matMulTransposedP8Op: Op<Bits & {x: tf.Tensor}, Size> = {
  name: 'Gemma3MatMulTransposedP8',
  reference: ({x, bits}, size) => tf.tidy(() => tf.matMul(x as tf.Tensor2D, unpacked(bits, size))),
};

export const gatherP8Op: Op<Bits & {ids: tf.Tensor}, {columns: number; format: PackedFormat}> = {
  name: 'Gemma3GatherP8',
  reference: ({bits, ids}, {columns, format}) =>
    tf.tidy(() => {
      const all = unpacked(bits, {rows: bits.shape[0]! * ROW_GROUP, columns, format});
      return tf.gather(all, ids as tf.Tensor1D);
    }),
};

/**
 * [outer, columns, inner] of a kernel whose input axes are adjacent and in order, as in all of Keras'; else undefined.
 */
function kernelForm(shape: readonly number[], layout: KernelLayout): [number, number, number] | undefined {
  const start = layout.in[0] ?? 0;
  const ascending = (axes: readonly number[]) => axes.every((axis, i) => i === 0 || axis > axes[i - 1]!);
  if (!layout.in.length || !layout.in.every((axis, i) => axis === start + i) || !ascending(layout.out))
    return undefined;
  const end = start + layout.in.length;
  return [sizeOf(shape.slice(0, start)), sizeOf(shape.slice(start, end)), sizeOf(shape.slice(end))];
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** The engine's number for each format. */
export const TYPES: Record<PackedFormat, PackedType> = {bfloat16: BFLOAT16, int8: INT8, int4: INT4};

/** A format in groups of eight rows, see `../engine/command.ts`. */
function packedInGroups(format: PackedFormat): Packing {
  const physicalShape = (rows: number, columns: number): [number, number] => [
    Math.ceil(rows / ROW_GROUP),
    packedBytes(TYPES[format], ROW_GROUP, columns) / 4,
  ];
  return withHostTensors({
    format,
    order: 'p8',
    rowGroup: ROW_GROUP,
    fusedBlocks: true,
    physicalShape,
    begin: (shape, layout) => {
      if (!(tf.backend() instanceof SimdBackend)) {
        if (tf.getBackend() === 'simd' && hasSimd()) {
          throw new ValueError(
            `Expected the backend "simd" of this copy of tfjs-gemma3 to pack weights as ${format}. Received: that of ` +
              `another copy. ${ONE_COPY}.`,
          );
        }
        throw new ValueError(
          `The backend "${tf.getBackend()}" cannot pack weights as ${format}. Use dtype "bfloat16" or "float32" on it, or ` +
            (hasSimd()
              ? 'the backend "simd": await useBackend("simd") before the model is created.'
              : 'another machine: packing needs WebAssembly SIMD, which is not available here.'),
        );
      }
      const form = kernelForm(shape, layout);
      return form ? packInPieces(shape, form, layout, format) : packFromRows(shape, layout, format);
    },
    unpack: (bits, rows, columns) => unpacked(bits, {rows, columns, format}),
    matMul: (x, bits, rows, columns) => runOp(matMulP8Op, {x, bits}, {rows, columns, format}) as tf.Tensor2D,
    matMulTransposed: (dy, bits, rows, columns) =>
      runOp(matMulTransposedP8Op, {x: dy, bits}, {rows, columns, format}) as tf.Tensor2D,
    gatherRows: (bits, ids, columns) => runOp(gatherP8Op, {bits, ids}, {columns, format}) as tf.Tensor2D,
  });
}

export const packings: Readonly<Record<PackedFormat, Packing>> = {
  bfloat16: packedInGroups('bfloat16'),
  int8: packedInGroups('int8'),
  int4: packedInGroups('int4'),
};

// Other backends can hold packed weights and compute with them through the references, but cannot pack.
registerPacking(null, packings.int8);
registerPacking(null, packings.int4);

/** Packs values as they arrive, straight into the memory of the backend. */
function packInPieces(
  shape: readonly number[],
  [outer, columns, inner]: [number, number, number],
  layout: KernelLayout,
  format: PackedFormat,
): PackingTarget {
  const backend = tf.backend() as unknown as SimdBackend;
  const rows = outer * inner;
  const target = backend.empty(packings[format].physicalShape(rows, columns), 'int32');
  // Slabs of the first axis are rows if that is an output axis, and columns otherwise.
  const byRows = layout.in[0] !== 0;
  const [total, step] = byRows ? [rows, ROW_GROUP] : [columns, COLUMN_BLOCK];
  const slab = total / shape[0]!;
  let staging: ReturnType<SimdBackend['borrow']> | undefined;
  return {
    multiple: step / gcd(step, slab),
    place: (values, first, count) => {
      const {bank, offset} = backend.placeOf(target)!;
      if (!staging || staging.view().length < values.byteLength) {
        staging?.release();
        staging = backend.borrow(values.byteLength, bank);
      }
      staging.view().set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      const [pieceRows, pieceColumns] = byRows ? [slab * count, columns] : [rows, slab * count];
      const [command, args] = pack({
        source: staging.offset,
        sourceType: BFLOAT16,
        inner,
        outerStride: pieceColumns * inner,
        innerStride: inner === 1 ? 0 : 1,
        columnStride: inner,
        rows: pieceRows,
        columns: pieceColumns,
        target: offset,
        targetType: TYPES[format],
        targetColumns: columns,
        firstRow: byRows ? slab * first : 0,
        firstColumn: byRows ? 0 : slab * first,
      });
      backend.engine.run(command, args, bank);
    },
    finish: () => {
      staging?.release();
      return tf.engine().makeTensorFromTensorInfo(target);
    },
    abandon: () => {
      staging?.release();
      backend.disposeData(target.dataId);
    },
  };
}

/** For any other order of axes: assembles a matrix of rows on the host first, and packs it at the end. */
function packFromRows(shape: readonly number[], layout: KernelLayout, format: PackedFormat): PackingTarget {
  const rows = sizeOf(layout.out.map(axis => shape[axis]!));
  const columns = sizeOf(layout.in.map(axis => shape[axis]!));
  const {halves, place} = hostRows(shape, layout, columns);
  return {
    multiple: 1,
    place,
    finish: () => {
      const packed = packInPieces([rows, columns], [rows, columns, 1], {out: [0], in: [1]}, format);
      packed.place(halves, 0, rows);
      return packed.finish();
    },
    abandon: () => {},
  };
}

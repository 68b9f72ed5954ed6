/**
 * Packed weights in the order of the kernels: groups of eight rows interleaved, so that a vector holds four outputs.
 */
import * as tf from '@tensorflow/tfjs';
import {ONE_COPY, ValueError} from '../../../base/errors';
import {sizeOf} from '../../../base/shapes';
import {hostRows} from '../../../ops/bfloat16_rows';
import {type Op, runOp} from '../../../ops/op';
import {type PackedFormat} from '../../../weights/dtype';
import {type BitsTarget, type KernelLayout, type Packing, type PackingTarget} from '../../../weights/packing';
import {withHostTensors} from '../../cpu/host_packing';
import {BFLOAT16, COLUMN_BLOCK, INT4, INT8, packedBytes, type PackedType, ROW_GROUP} from '../engine/command';
import {whyNoSimd} from '../engine/available';
import {SimdBackend} from '../memory/simd_backend';
import {pack} from './pack_command';
import {integerPacking} from './place_integers';
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
export function kernelForm(shape: readonly number[], layout: KernelLayout): [number, number, number] | undefined {
  const start = layout.in[0] ?? 0;
  const ascending = (axes: readonly number[]) => axes.every((axis, i) => i === 0 || axis > axes[i - 1]!);
  if (!layout.in.length || !layout.in.every((axis, i) => axis === start + i) || !ascending(layout.out))
    return undefined;
  const end = start + layout.in.length;
  return [sizeOf(shape.slice(0, start)), sizeOf(shape.slice(start, end)), sizeOf(shape.slice(end))];
}

export const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** The engine's number for each format. */
export const TYPES: Record<PackedFormat, PackedType> = {bfloat16: BFLOAT16, int8: INT8, int4: INT4};

/**
 * The largest number of values that the references unpack on other backends, for a product or lookup, and for reading.
 * They unpack a whole matrix each time, which takes minutes for each token of a real model.
 */
const LARGEST: Record<PackedFormat, {product: number; read: number}> = {
  bfloat16: {product: 2 ** 20, read: 2 ** 24},
  int8: {product: 2 ** 16, read: 2 ** 16},
  int4: {product: 2 ** 16, read: 2 ** 16},
};

/** Names of backends with kernels for these weights. */
const hasKernels = new Set(['simd']);

/** Registers that a backend of this name has kernels for weights in this order. */
export const registerP8Kernels = (backendName: string): void => void hasKernels.add(backendName);

/** @throws ValueError on a backend without kernels for these weights, unless there are few values. */
function checkKernels(format: PackedFormat, use: 'product' | 'read', values: number): void {
  if (values <= LARGEST[format][use] || hasKernels.has(tf.getBackend())) return;
  const dtypes = format === 'bfloat16' ? '' : ' and dtype "bfloat16" or "float32"';
  throw new ValueError(
    `Expected the backend "simd", for which these weights are packed as ${format}. Received: the backend ` +
      `"${tf.getBackend()}", which would take minutes. Switch back with await useBackend("simd"), or load the model again ` +
      `with this backend${dtypes}.`,
  );
}

/** @throws ValueError on a backend that cannot pack. */
function checkBackend(format: PackedFormat): void {
  if (!(tf.backend() instanceof SimdBackend)) {
    if (tf.getBackend() === 'simd') {
      throw new ValueError(
        `Expected the backend "simd" of this copy of tfjs-gemma3 to pack weights as ${format}. Received: that of ` +
          `another copy. ${ONE_COPY}.`,
      );
    }
    const reason = whyNoSimd();
    throw new ValueError(
      `The backend "${tf.getBackend()}" cannot pack weights as ${format}. Use dtype "bfloat16" or "float32" on it, or ` +
        (reason === undefined
          ? 'the backend "simd": await useBackend("simd") before the model is created.'
          : `the backend "simd" where it works. Here it does not. ${reason}`),
    );
  }
}

/** A packed matrix without values, in the memory of the backend. */
function emptyMatrix(format: PackedFormat, rows: number, columns: number) {
  const backend = tf.backend() as unknown as SimdBackend;
  const target = backend.empty(packings[format].physicalShape(rows, columns), 'int32');
  return {
    bytes: (start: number, count: number) => {
      const {bank, offset} = backend.placeOf(target)!;
      return new Uint8Array(backend.words(bank).ints.buffer, offset + start, count);
    },
    finish: () => tf.engine().makeTensorFromTensorInfo(target),
    abandon: () => void backend.disposeData(target.dataId),
  };
}

/** The part of a format in groups of eight rows that is the same on every backend. See `../engine/command.ts`. */
export const commonPacking = (format: PackedFormat) => ({
  format,
  order: 'p8',
  rowGroup: ROW_GROUP,
  fusedBlocks: true,
  physicalShape: (rows: number, columns: number): [number, number] => [
    Math.ceil(rows / ROW_GROUP),
    packedBytes(TYPES[format], ROW_GROUP, columns) / 4,
  ],
  unpack: (bits: tf.Tensor2D, rows: number, columns: number) => {
    checkKernels(format, 'read', rows * columns);
    return unpacked(bits, {rows, columns, format});
  },
  matMul: (x: tf.Tensor2D, bits: tf.Tensor2D, rows: number, columns: number) => {
    checkKernels(format, 'product', rows * columns);
    return runOp(matMulP8Op, {x, bits}, {rows, columns, format}) as tf.Tensor2D;
  },
  matMulTransposed: (dy: tf.Tensor2D, bits: tf.Tensor2D, rows: number, columns: number) => {
    checkKernels(format, 'product', rows * columns);
    return runOp(matMulTransposedP8Op, {x: dy, bits}, {rows, columns, format}) as tf.Tensor2D;
  },
  gatherRows: (bits: tf.Tensor2D, ids: tf.Tensor1D, columns: number) => {
    checkKernels(format, 'product', bits.shape[0] * ROW_GROUP * columns);
    return runOp(gatherP8Op, {bits, ids}, {columns, format}) as tf.Tensor2D;
  },
});

/** A format in the memory of this backend. */
function packedInGroups(format: PackedFormat): Packing {
  const common = commonPacking(format);
  return withHostTensors({
    ...common,
    ...(format === 'bfloat16'
      ? {}
      : integerPacking(format, (rows, columns) => {
          checkBackend(format);
          return emptyMatrix(format, rows, columns);
        })),
    begin: (shape, layout, energies) => {
      checkBackend(format);
      const form = kernelForm(shape, layout);
      return form ? packInPieces(shape, form, layout, format, energies) : packFromRows(shape, layout, format, energies);
    },
    beginBits: (rows, columns) => {
      const backend = tf.backend();
      return backend instanceof SimdBackend ? takeBits(backend, common.physicalShape(rows, columns)) : undefined;
    },
  });
}

export const packings: Readonly<Record<PackedFormat, Packing>> = {
  bfloat16: packedInGroups('bfloat16'),
  int8: packedInGroups('int8'),
  int4: packedInGroups('int4'),
};

/** Takes bits as they arrive, straight into the memory of the backend. */
function takeBits(backend: SimdBackend, shape: [number, number]): BitsTarget {
  const target = backend.empty(shape, 'int32');
  return {
    place: (bytes, start) => backend.viewOf(target).set(bytes, start),
    finish: () => tf.engine().makeTensorFromTensorInfo(target),
    abandon: () => backend.disposeData(target.dataId),
  };
}

/** Packs values as they arrive, straight into the memory of the backend. */
function packInPieces(
  shape: readonly number[],
  [outer, columns, inner]: [number, number, number],
  layout: KernelLayout,
  format: PackedFormat,
  energies?: Float32Array,
): PackingTarget {
  const backend = tf.backend() as unknown as SimdBackend;
  const rows = outer * inner;
  const target = backend.empty(packings[format].physicalShape(rows, columns), 'int32');
  // Slabs of the first axis are rows if that is an output axis, and columns otherwise.
  const byRows = layout.in[0] !== 0;
  const [total, step] = byRows ? [rows, ROW_GROUP] : [columns, COLUMN_BLOCK];
  const slab = total / shape[0]!;
  const staging = backend.staging(target.bank).open();
  let energyBlock: ReturnType<SimdBackend['borrow']> | undefined;
  const release = () => {
    staging.close();
    energyBlock?.release();
  };
  return {
    multiple: step / gcd(step, slab),
    space: count => staging.space(count),
    place: (values, first, count) => {
      const {bank, offset} = backend.placeOf(target)!;
      const [pieceRows, pieceColumns] = byRows ? [slab * count, columns] : [rows, slab * count];
      const source = staging.offsetOf(values);
      if (energies) {
        energyBlock ??= backend.borrow(4 * columns, bank);
        energyBlock.view().set(bytesOf(byRows ? energies : energies.subarray(slab * first, slab * (first + count))));
      }
      const [command, args] = pack({
        source,
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
        energies: energyBlock?.offset ?? 0,
      });
      backend.engine.run(command, args, bank);
    },
    finish: () => {
      release();
      return tf.engine().makeTensorFromTensorInfo(target);
    },
    abandon: () => {
      release();
      backend.disposeData(target.dataId);
    },
  };
}

const bytesOf = ({buffer, byteOffset, byteLength}: Float32Array) => new Uint8Array(buffer, byteOffset, byteLength);

/** For any other order of axes: assembles a matrix of rows on the host first, and packs it at the end. */
function packFromRows(
  shape: readonly number[],
  layout: KernelLayout,
  format: PackedFormat,
  energies?: Float32Array,
): PackingTarget {
  const rows = sizeOf(layout.out.map(axis => shape[axis]!));
  const columns = sizeOf(layout.in.map(axis => shape[axis]!));
  const {halves, place} = hostRows(shape, layout, columns);
  return {
    multiple: 1,
    place,
    finish: () => {
      const packed = packInPieces([rows, columns], [rows, columns, 1], {out: [0], in: [1]}, format, energies);
      packed.place(halves, 0, rows);
      return packed.finish();
    },
    abandon: () => {},
  };
}

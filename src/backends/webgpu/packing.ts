/** Packed weights on the GPU, in the order of the backend "simd": the same files, and the same bits. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {hostRows} from '../../ops/bfloat16_rows';
import {type PackedFormat} from '../../weights/dtype';
import {bfloat16Bits, packValues} from '../../weights/pack_values';
import {type KernelLayout, type Packing, type PackingTarget} from '../../weights/packing';
import {COLUMN_BLOCK, ROW_GROUP} from '../simd/engine/command';
import {commonPacking, gcd, kernelForm} from '../simd/packing/packing';
import {integerPacking, type Matrix} from '../simd/packing/place_integers';
import {checkWeightFits} from './memory';
import {groupSizes, type Packer} from './packer';
import {type WebGpuBackend} from './webgpu_backend';

const current = () => tf.backend() as unknown as WebGpuBackend;

/** A matrix without values on the GPU. */
function emptyMatrix(shape: [number, number]) {
  const backend = current();
  const target = backend.empty(shape, 'int32');
  return {
    checkUsable: () => backend.checkUsable(),
    place: (bytes: Uint8Array, start: number) => backend.writeBytes(target, bytes, start),
    finish: () => tf.engine().makeTensorFromTensorInfo(target),
    abandon: () => void backend.disposeData(target.dataId),
  };
}

/** Integers are placed in host memory, a piece at a time. */
function integerMatrix(shape: [number, number]): Matrix {
  const {place, finish, abandon} = emptyMatrix(shape);
  let piece = new Uint8Array(0);
  return {
    bytes: (_, count) => {
      if (piece.length < count) piece = new Uint8Array(count);
      return piece.subarray(0, count);
    },
    filled: place,
    finish,
    abandon,
  };
}

/** Packs values as they arrive. */
function packInPieces(
  packer: Packer,
  shape: readonly number[],
  [outer, columns, inner]: [number, number, number],
  layout: KernelLayout,
  {format, physicalShape}: Pick<Packing, 'format' | 'physicalShape'>,
): PackingTarget {
  const rows = outer * inner;
  const {checkUsable, place, finish, abandon} = emptyMatrix(physicalShape(rows, columns));
  const {group, block} = groupSizes(format, columns);
  // Slabs of the first axis are rows if that is an output axis, and columns otherwise.
  const byRows = layout.in[0] !== 0;
  const [total, step] = byRows ? [rows, ROW_GROUP] : [columns, COLUMN_BLOCK];
  const slab = total / shape[0]!;
  return {
    multiple: step / gcd(step, slab),
    place: (values, first, count) => {
      // Without the device there is no packer either.
      checkUsable();
      const [pieceRows, pieceColumns] = byRows ? [slab * count, columns] : [rows, slab * count];
      const form = {
        inner,
        outerStride: pieceColumns * inner,
        innerStride: inner === 1 ? 0 : 1,
        columnStride: inner,
        rows: pieceRows,
        columns: pieceColumns,
      };
      const packed = packer.pack(values, form, format);
      if (byRows) {
        place(packed, ((slab * first) / ROW_GROUP) * group);
        return;
      }
      // A piece has some blocks of every group.
      const start = ((slab * first) / COLUMN_BLOCK) * block;
      const run = Math.ceil(pieceColumns / COLUMN_BLOCK) * block;
      for (let g = 0; g * ROW_GROUP < rows; g++) place(packed.subarray(g * run, (g + 1) * run), g * group + start);
    },
    finish,
    abandon,
  };
}

/** For any other order of axes: assembles a matrix of rows on the host first, and packs it at the end. */
function packFromRows(
  packer: Packer,
  shape: readonly number[],
  layout: KernelLayout,
  common: Pick<Packing, 'format' | 'physicalShape'>,
): PackingTarget {
  const rows = sizeOf(layout.out.map(axis => shape[axis]!));
  const columns = sizeOf(layout.in.map(axis => shape[axis]!));
  const {halves, place} = hostRows(shape, layout, columns);
  return {
    multiple: 1,
    place,
    finish: () => {
      const packed = packInPieces(packer, [rows, columns], [rows, columns, 1], {out: [0], in: [1]}, common);
      packed.place(halves, 0, rows);
      return packed.finish();
    },
    abandon: () => {},
  };
}

/** A format on the GPU. */
export function webGpuPacking(format: PackedFormat, packer: Packer): Packing {
  const common = commonPacking(format);
  const begin: Packing['begin'] = (shape, layout) => {
    checkWeightFits(current().device, shape, format);
    const form = kernelForm(shape, layout);
    return form ? packInPieces(packer, shape, form, layout, common) : packFromRows(packer, shape, layout, common);
  };
  return {
    ...common,
    ...(format === 'bfloat16'
      ? {}
      : integerPacking(format, (rows, columns) => {
          checkWeightFits(current().device, [rows, columns], format);
          return integerMatrix(common.physicalShape(rows, columns));
        })),
    begin,
    beginBits: (rows, columns) => {
      checkWeightFits(current().device, [rows, columns], format);
      return emptyMatrix(common.physicalShape(rows, columns));
    },
    packTensor: (tensor, shape, layout) => {
      const {values} = current().tensorMap.get(tensor.dataId);
      if (!values) {
        throw new ValueError(
          `Expected values that the host knows, to pack them as ${format}. Received: a tensor that is only on the GPU. ` +
            'Read it with `await tensor.data()` first, or call `await weight.fillFromTensor(tensor)`.',
        );
      }
      return packValues(begin(shape, layout), bfloat16Bits(values as Float32Array, sizeOf(shape)), shape);
    },
  };
}

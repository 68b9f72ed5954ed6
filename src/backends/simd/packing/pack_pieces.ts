/** Packs values as they arrive, for a device that stores them in groups of eight rows. */
import type * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {hostRows} from '../../../ops/bfloat16_rows';
import {type PackedFormat} from '../../../weights/dtype';
import {type BitsTarget, type KernelLayout, type PackingTarget} from '../../../weights/packing';
import {COLUMN_BLOCK, ROW_GROUP} from '../engine/command';
import {groupSizes, type Packer} from './packer';
import {gcd, kernelForm} from './packing';

/** A matrix on a device that takes packed bytes. */
export interface DeviceMatrix extends BitsTarget {
  /** @throws Error if the device is gone. */
  checkUsable(): void;
  finish(): tf.Tensor;
}

type Begin = (rows: number, columns: number) => DeviceMatrix;

/** @param begin creates a matrix without values. */
export function packOnTheWay(
  packer: Packer,
  shape: readonly number[],
  layout: KernelLayout,
  format: PackedFormat,
  begin: Begin,
  energies?: Float32Array,
): PackingTarget {
  const form = kernelForm(shape, layout);
  return form
    ? packInPieces(packer, shape, form, layout, format, begin, energies)
    : packFromRows(packer, shape, layout, format, begin, energies);
}

function packInPieces(
  packer: Packer,
  shape: readonly number[],
  [outer, columns, inner]: [number, number, number],
  layout: KernelLayout,
  format: PackedFormat,
  begin: Begin,
  energies?: Float32Array,
): PackingTarget {
  const rows = outer * inner;
  const {checkUsable, place, finish, abandon} = begin(rows, columns);
  const {group, block} = groupSizes(format, columns);
  // Slabs of the first axis are rows if that is an output axis, and columns otherwise.
  const byRows = layout.in[0] !== 0;
  const [total, step] = byRows ? [rows, ROW_GROUP] : [columns, COLUMN_BLOCK];
  const slab = total / shape[0]!;
  return {
    multiple: step / gcd(step, slab),
    place: (values, first, count) => {
      // Without a device there is no packer either.
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
      const ofPiece = byRows ? energies : energies?.subarray(slab * first, slab * (first + count));
      const packed = packer.pack(values, form, format, ofPiece);
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
  format: PackedFormat,
  begin: Begin,
  energies?: Float32Array,
): PackingTarget {
  const rows = sizeOf(layout.out.map(axis => shape[axis]!));
  const columns = sizeOf(layout.in.map(axis => shape[axis]!));
  const {halves, place} = hostRows(shape, layout, columns);
  return {
    multiple: 1,
    place,
    finish: () => {
      const rowMajor = {out: [0], in: [1]};
      const packed = packInPieces(packer, [rows, columns], [rows, columns, 1], rowMajor, format, begin, energies);
      packed.place(halves, 0, rows);
      return packed.finish();
    },
    abandon: () => {},
  };
}

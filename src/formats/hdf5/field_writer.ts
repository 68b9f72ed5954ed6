/** Writes consecutive fields of HDF5 files: the counterpart of `cursor.ts`. */
import {ByteWriter} from '../../base/byte_writer';

/** HDF5's "undefined address": all ones. */
const UNDEFINED = 0xffffffff;

/** Structures start at multiples of this. */
export const ALIGNMENT = 8;

export const aligned = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

/** A buffer that grows as fields are appended. */
export class FieldWriter extends ByteWriter {
  /** An address of 8 bytes; undefined is HDF5's "undefined address". */
  address(value: number | undefined): this {
    return value === undefined ? this.u32(UNDEFINED).u32(UNDEFINED) : this.u64(value);
  }

  /** Zeros up to the next multiple of 8. */
  pad(): this {
    return this.zeros(aligned(this.length) - this.length);
  }
}

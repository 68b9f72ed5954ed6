/**
 * Packs values in WebAssembly before they go to a device, so that the bits equal those of the backend "simd", whatever
 * the device's arithmetic.
 */
import {type PackedFormat} from '../../../weights/dtype';
import {BFLOAT16, COLUMN_BLOCK, packedBytes, ROW_GROUP} from '../engine/command';
import {type SimdEngine} from '../engine/simd_engine';
import {startEngine} from '../engine/start_engine';
import {pack, type PackArgs} from './pack_command';
import {TYPES} from './packing';

const PAGE = 65_536;

/** Where the rows and columns of a piece are in the values: see `PackArgs`. */
export type PieceForm = Pick<PackArgs, 'inner' | 'outerStride' | 'innerStride' | 'columnStride' | 'rows' | 'columns'>;

export class Packer {
  private packed = new Uint8Array(0);

  private constructor(private readonly engine: SimdEngine) {}

  /** @throws UnavailableError if there is no WebAssembly SIMD, which browsers with WebGPU have. */
  static async start(): Promise<Packer> {
    return new Packer(await startEngine());
  }

  /**
   * The packed bytes of a piece, as a matrix of its own. Valid until the next call.
   *
   * @param energies those of the columns of the piece: see `Packing.begin`.
   */
  pack(values: Uint16Array, form: PieceForm, format: PackedFormat, energies?: Float32Array): Uint8Array {
    const {engine} = this;
    const type = TYPES[format];
    const source = Math.ceil(engine.staticBytes / 64) * 64;
    const weights = source + Math.ceil(values.byteLength / 64) * 64;
    const target = weights + Math.ceil((energies?.byteLength ?? 0) / 64) * 64;
    const bytes = packedBytes(type, form.rows, form.columns);
    // The last 64 bytes of a memory stay free.
    const missing = target + bytes + 64 - engine.memory.buffer.byteLength;
    if (missing > 0) engine.memory.grow(Math.ceil(missing / PAGE));
    const {buffer} = engine.memory;
    new Uint16Array(buffer, source, values.length).set(values);
    const targetColumns = Math.ceil(form.columns / COLUMN_BLOCK) * COLUMN_BLOCK;
    if (energies) new Float32Array(buffer, weights, energies.length).set(energies);
    const to = {target, targetType: type, targetColumns, energies: energies ? weights : 0};
    engine.run(...pack({...form, source, sourceType: BFLOAT16, ...to}));
    // A copy: not every WebGPU implementation accepts memory that threads share.
    if (this.packed.length < bytes) this.packed = new Uint8Array(bytes);
    const packed = this.packed.subarray(0, bytes);
    packed.set(new Uint8Array(buffer, target, bytes));
    return packed;
  }

  dispose(): void {
    void this.engine.dispose();
  }
}

/** Bytes of a group of eight rows, and of a block of it. */
export const groupSizes = (format: PackedFormat, columns: number): {group: number; block: number} => ({
  group: packedBytes(TYPES[format], ROW_GROUP, columns),
  block: packedBytes(TYPES[format], ROW_GROUP, COLUMN_BLOCK),
});

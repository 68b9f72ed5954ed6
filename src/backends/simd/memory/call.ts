/**
 * What a command needs, in one bank: its operands, its result, room to work in. Operands that rest elsewhere are moved,
 * not copied, so that what belongs together comes together once: the cache of a block to its weights, the last kernel of
 * a block to the others where a bank ended between them.
 */
import type * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type Command} from '../engine/commands';
import {type Heap} from './heap';
import {type NumericType, type SimdBackend} from './simd_backend';

export interface CallOptions {
  /** Of the result. */
  shape: number[];
  /** Of the result. Defaults to float32. */
  dtype?: NumericType;
  /** Shapes of further results, float32. */
  more?: readonly number[][];
  /** Bytes that the command needs for itself while it runs. Defaults to 0. */
  room?: number;
  /** Operands that the others are brought to, by name: weights. By default the largest operands. */
  home?: readonly string[];
}

export class Call {
  readonly bank: number;
  /** Address of the result. */
  readonly y: number;
  /** Address of the room. */
  readonly room: number;
  /** The further results, and their addresses. */
  readonly more: tf.TensorInfo[];
  readonly moreAt: number[];
  private readonly result: tf.TensorInfo;
  private readonly roomBytes: number;

  /** @throws OutOfMemoryError if no bank has room for all of it. */
  constructor(
    private readonly backend: SimdBackend,
    private readonly heap: Heap,
    private readonly inputs: Readonly<Record<string, tf.TensorInfo>>,
    {shape, dtype = 'float32', more = [], room = 0, home = Object.keys(inputs)}: CallOptions,
  ) {
    const resultBytes = sizeOf(shape) * (dtype === 'bool' ? 1 : 4);
    const moreBytes = more.map(shape => 4 * sizeOf(shape));
    const own = [resultBytes, ...moreBytes, ...(room ? [room] : [])];
    const {bank, offsets, strays} = this.findRoom(home, own);
    const places = offsets.slice(own.length);
    strays.forEach((stray, i) => backend.bring(stray, {bank, offset: places[i]!}));
    this.bank = bank;
    this.y = offsets[0]!;
    this.moreAt = offsets.slice(1, 1 + more.length);
    this.room = room ? offsets[1 + more.length]! : 0;
    this.roomBytes = room;
    this.result = backend.makeAt({bank, offset: this.y}, shape, dtype);
    this.more = more.map((shape, i) => backend.makeAt({bank, offset: this.moreAt[i]!}, shape, 'float32'));
  }

  /** Address of an operand. */
  at(name: string): number {
    return this.backend.placeOf(this.inputs[name]!)!.offset;
  }

  /** Address of an operand that may be missing, 0 then. */
  maybeAt(name: string): number {
    return this.inputs[name] ? this.at(name) : 0;
  }

  /** The whole bank as numbers. */
  get words(): {floats: Float32Array; ints: Int32Array} {
    return this.backend.words(this.bank);
  }

  /** Runs the commands, one after another, and gives the result. The room is free then. */
  run(...commands: Command[]): tf.TensorInfo {
    try {
      for (const [command, args] of commands) this.backend.engine.run(command, args, this.bank);
    } finally {
      if (this.roomBytes) this.heap.release({bank: this.bank, offset: this.room}, this.roomBytes);
    }
    return this.result;
  }

  /** The best bank that has room for what the command needs of its own and for the operands that are not there. */
  private findRoom(home: readonly string[], own: readonly number[]): Found {
    const size = (stray: tf.TensorInfo) => this.backend.bytesOf(stray);
    for (const bank of this.banks(home)) {
      const strays = this.strays(bank);
      const offsets = this.allocate(bank, [...own, ...strays.map(size)]);
      if (offsets) return {bank, offsets, strays};
    }
    // In a new bank nothing is there yet.
    const strays = this.strays(this.heap.banks);
    const sizes = [...own, ...strays.map(size)];
    const total = sizes.reduce((a, b) => a + b, 0);
    const bank = this.heap.extend(total) ? this.heap.banks - 1 : undefined;
    const offsets = bank === undefined ? undefined : this.allocate(bank, sizes);
    if (bank === undefined || !offsets) throw this.heap.full(total);
    return {bank, offsets, strays};
  }

  /** Banks by how much of these operands they hold, most first. */
  private banks(home: readonly string[]): number[] {
    if (this.heap.banks === 1) return [0];
    const held = new Array<number>(this.heap.banks).fill(0);
    for (const name of home) {
      const place = this.backend.placeOf(this.inputs[name]!);
      if (place) held[place.bank]! += this.backend.bytesOf(this.inputs[name]!);
    }
    return held.map((_, bank) => bank).sort((a, b) => held[b]! - held[a]!);
  }

  /** Operands that are not in this bank, each once. */
  private strays(bank: number): tf.TensorInfo[] {
    const strays = Object.values(this.inputs).filter(input => this.backend.placeOf(input)?.bank !== bank);
    return strays.length < 2 ? strays : [...new Map(strays.map(stray => [stray.dataId, stray])).values()];
  }

  /** Places for so many bytes each, or none at all. */
  private allocate(bank: number, sizes: readonly number[]): number[] | undefined {
    const offsets: number[] = [];
    for (const bytes of sizes) {
      const offset = this.heap.allocateIn(bank, bytes);
      if (offset === null) {
        offsets.forEach((at, i) => this.heap.release({bank, offset: at}, sizes[i]!));
        return undefined;
      }
      offsets.push(offset);
    }
    return offsets;
  }
}

interface Found {
  bank: number;
  offsets: number[];
  strays: tf.TensorInfo[];
}

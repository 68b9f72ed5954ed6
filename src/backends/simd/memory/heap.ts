/** Room for tensors in the memories of an engine: first fit over sorted lists of free ranges. */
import {OutOfMemoryError} from '../../../base/errors';
import {PAGE} from '../engine/bank';
import {type SimdEngine} from '../engine/simd_engine';

/** Cache lines, and what SIMD loads like. */
const ALIGN = 64;
/** The end of a memory of 4 GiB stays free: kernels may load a vector past a tensor's end. */
const TAIL = 64;
/** A memory grows by this much at least: growing is cheap, but each time every view must be made anew. */
const GROW = 64 * 2 ** 20;
/** Weights leave this part of each bank free, for what is computed beside them: caches, activations. */
const SPARE = 1 / 4;

const up = (value: number, to: number) => Math.ceil(value / to) * to;
const sizeOf = (bytes: number) => Math.max(ALIGN, up(bytes, ALIGN));

interface Range {
  start: number;
  end: number;
}

/** Free ranges, sorted, never touching each other. Offsets are plain numbers: 4 GiB needs more than 31 bits. */
export class Arena {
  private readonly free: Range[] = [];
  used = 0;

  /** Offset of `bytes` bytes, or null if no range is long enough. */
  allocate(bytes: number): number | null {
    const size = sizeOf(bytes);
    const index = this.free.findIndex(range => range.end - range.start >= size);
    if (index < 0) return null;
    const range = this.free[index]!;
    const offset = range.start;
    range.start += size;
    if (range.start === range.end) this.free.splice(index, 1);
    this.used += size;
    return offset;
  }

  release(offset: number, bytes: number): void {
    const size = sizeOf(bytes);
    this.used -= size;
    this.add(offset, offset + size);
  }

  /** Bytes of the free range that ends here. */
  freeBefore(end: number): number {
    const last = this.free.at(-1);
    return last?.end === end ? end - last.start : 0;
  }

  /** Makes [start, end) free, merged with what it touches. */
  add(start: number, end: number): void {
    let low = 0;
    let high = this.free.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.free[middle]!.start < start) low = middle + 1;
      else high = middle;
    }
    const before = this.free[low - 1];
    const after = this.free[low];
    if ((before && before.end > start) || (after && after.start < end)) {
      throw new Error(`internal: memory from ${start} to ${end} was released twice.`);
    }
    const joinsBefore = before?.end === start;
    const joinsAfter = after?.start === end;
    if (joinsBefore && joinsAfter) {
      before.end = after.end;
      this.free.splice(low, 1);
    } else if (joinsBefore) {
      before.end = end;
    } else if (joinsAfter) {
      after.start = start;
    } else {
      this.free.splice(low, 0, {start, end});
    }
  }
}

/** Where bytes are. */
export interface Place {
  readonly bank: number;
  readonly offset: number;
}

/** One bank's part of the heap. */
class Room {
  readonly arena = new Arena();
  private end: number;

  constructor(
    private readonly memory: WebAssembly.Memory,
    staticBytes: number,
  ) {
    this.end = memory.buffer.byteLength;
    const start = up(staticBytes, ALIGN);
    if (this.end - TAIL > start) this.arena.add(start, this.end - TAIL);
    else this.end = Math.max(this.end, start + TAIL);
  }

  /** Offset of `bytes` free bytes, or null; the memory grows if it must. */
  allocate(bytes: number): number | null {
    return this.arena.allocate(bytes) ?? (this.grow(sizeOf(bytes)) ? this.arena.allocate(bytes) : null);
  }

  private grow(bytes: number): boolean {
    const {memory} = this;
    const before = this.end - TAIL;
    const end = before - this.arena.freeBefore(before) + bytes + TAIL;
    const pages = up(end - memory.buffer.byteLength, PAGE) / PAGE;
    for (const wanted of [Math.max(pages, GROW / PAGE), pages]) {
      try {
        memory.grow(wanted);
      } catch {
        continue;
      }
      this.end = memory.buffer.byteLength;
      this.arena.add(before, this.end - TAIL);
      return true;
    }
    return false;
  }
}

/** All memory that tensors may rest in. A further bank is made when those that are there are full. */
export class Heap {
  private readonly rooms: Room[];

  constructor(private readonly engine: SimdEngine) {
    this.rooms = engine.banks.map(({memory}) => new Room(memory, engine.staticBytes));
  }

  /** Bytes that are given out. */
  get used(): number {
    return this.rooms.reduce((sum, {arena}) => sum + arena.used, 0);
  }

  /** Bytes of all memories. */
  get reserved(): number {
    return this.engine.banks.reduce((sum, {memory}) => sum + memory.buffer.byteLength, 0);
  }

  get banks(): number {
    return this.rooms.length;
  }

  buffer(bank: number): ArrayBuffer {
    return this.engine.banks[bank]!.memory.buffer;
  }

  /** True for the buffer of a bank. */
  owns(buffer: ArrayBufferLike): boolean {
    return this.engine.banks.some(({memory}) => memory.buffer === buffer);
  }

  /** A place in this bank, or null if it is full. */
  allocateIn(bank: number, bytes: number): number | null {
    return this.rooms[bank]!.allocate(bytes);
  }

  /**
   * A place for what stays, such as weights: banks are filled one after another, but for a spare part of each.
   *
   * @throws OutOfMemoryError if there is no room.
   */
  allocateLasting(bytes: number): Place {
    const limit = (1 - SPARE) * this.bankBytes;
    const roomy = (bank: number) => this.rooms[bank]!.arena.used + bytes <= limit;
    return this.firstOf(bytes, roomy) ?? this.inNewBank(bytes) ?? this.allocate(bytes);
  }

  /**
   * A place anywhere.
   *
   * @throws OutOfMemoryError if there is none.
   */
  allocate(bytes: number): Place {
    const place = this.firstOf(bytes, () => true) ?? this.inNewBank(bytes);
    if (!place) throw this.full(bytes);
    return place;
  }

  /** A further bank, if there can be one that holds so many bytes. */
  extend(bytes: number): boolean {
    const memory = sizeOf(bytes) <= this.bankBytes ? this.engine.addBank()?.memory : undefined;
    if (memory) this.rooms.push(new Room(memory, this.engine.staticBytes));
    return memory !== undefined;
  }

  release({bank, offset}: Place, bytes: number): void {
    this.rooms[bank]!.arena.release(offset, bytes);
  }

  /** What to throw where so many bytes have no place. */
  full(bytes: number): OutOfMemoryError {
    return new OutOfMemoryError({bytes, used: this.used, limit: this.banks * this.bankBytes, largest: this.bankBytes});
  }

  /** Bytes that a bank can hold. */
  private get bankBytes(): number {
    return this.engine.maximumBytes - up(this.engine.staticBytes, ALIGN) - TAIL;
  }

  private firstOf(bytes: number, suits: (bank: number) => boolean): Place | undefined {
    for (let bank = 0; bank < this.banks; bank++) {
      const offset = suits(bank) ? this.allocateIn(bank, bytes) : null;
      if (offset !== null) return {bank, offset};
    }
    return undefined;
  }

  private inNewBank(bytes: number): Place | undefined {
    if (!this.extend(bytes)) return undefined;
    const bank = this.banks - 1;
    const offset = this.allocateIn(bank, bytes);
    return offset === null ? undefined : {bank, offset};
  }
}

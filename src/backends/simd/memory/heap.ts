/** Allocates tensors in the memories of an engine: first fit over sorted lists of free ranges. */
import {OutOfMemoryError} from '../../../base/errors';
import {PAGE} from '../engine/bank';
import {type SimdEngine} from '../engine/simd_engine';

/** Alignment in bytes: one cache line. */
const ALIGN = 64;
/** Bytes that stay free at the end of each memory: kernels may load a vector past a tensor's end. */
const TAIL_BYTES = 64;
/** A memory grows by at least this many bytes: growing is cheap, but every view must be recreated each time. */
const MIN_GROWTH = 64 * 2 ** 20;
/** Fraction of each bank that weights leave free for caches and activations. */
const SPARE_FRACTION = 1 / 4;

const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;
const blockSize = (bytes: number) => Math.max(ALIGN, roundUp(bytes, ALIGN));

interface Range {
  start: number;
  end: number;
}

/** Sorted free ranges; adjacent ones are merged. Offsets are plain numbers, because 4 GiB needs more than 31 bits. */
export class Arena {
  private readonly free: Range[] = [];
  used = 0;

  /** Offset of a block of this many bytes, or null if no range is long enough. */
  allocate(bytes: number): number | null {
    const size = blockSize(bytes);
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
    const size = blockSize(bytes);
    this.used -= size;
    this.add(offset, offset + size);
  }

  /** Bytes of the free range that ends at `end`. */
  freeBefore(end: number): number {
    const last = this.free.at(-1);
    return last?.end === end ? end - last.start : 0;
  }

  /** Marks [start, end) as free and merges it with adjacent ranges. */
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

/** An address: a bank, and a byte offset in it. */
export interface Place {
  readonly bank: number;
  readonly offset: number;
}

/** The heap of one bank. */
class BankHeap {
  readonly arena = new Arena();
  private end: number;

  constructor(
    private readonly memory: WebAssembly.Memory,
    staticBytes: number,
  ) {
    this.end = memory.buffer.byteLength;
    const start = roundUp(staticBytes, ALIGN);
    if (this.end - TAIL_BYTES > start) this.arena.add(start, this.end - TAIL_BYTES);
    else this.end = Math.max(this.end, start + TAIL_BYTES);
  }

  /** Offset of a block of this many bytes, or null if the bank is full. Grows the memory if necessary. */
  allocate(bytes: number): number | null {
    return this.arena.allocate(bytes) ?? (this.grow(blockSize(bytes)) ? this.arena.allocate(bytes) : null);
  }

  private grow(bytes: number): boolean {
    const {memory} = this;
    const before = this.end - TAIL_BYTES;
    const end = before - this.arena.freeBefore(before) + bytes + TAIL_BYTES;
    const pages = roundUp(end - memory.buffer.byteLength, PAGE) / PAGE;
    for (const wanted of [Math.max(pages, MIN_GROWTH / PAGE), pages]) {
      try {
        memory.grow(wanted);
      } catch {
        continue;
      }
      this.end = memory.buffer.byteLength;
      this.arena.add(before, this.end - TAIL_BYTES);
      return true;
    }
    return false;
  }
}

/** All memory for tensors. Adds a bank when the existing ones are full. */
export class Heap {
  private readonly bankHeaps: BankHeap[];

  constructor(private readonly engine: SimdEngine) {
    this.bankHeaps = engine.banks.map(({memory}) => new BankHeap(memory, engine.staticBytes));
  }

  /** Allocated bytes. */
  get used(): number {
    return this.bankHeaps.reduce((sum, {arena}) => sum + arena.used, 0);
  }

  /** Size of all memories in bytes. */
  get reserved(): number {
    return this.engine.banks.reduce((sum, {memory}) => sum + memory.buffer.byteLength, 0);
  }

  get banks(): number {
    return this.bankHeaps.length;
  }

  buffer(bank: number): ArrayBuffer {
    return this.engine.banks[bank]!.memory.buffer;
  }

  /** Whether this is the buffer of a bank. */
  owns(buffer: ArrayBufferLike): boolean {
    return this.engine.banks.some(({memory}) => memory.buffer === buffer);
  }

  /** Offset of a block in this bank, or null if it is full. */
  allocateIn(bank: number, bytes: number): number | null {
    return this.bankHeaps[bank]!.allocate(bytes);
  }

  /**
   * Allocates long-lived data, such as weights. Fills one bank after another, but leaves a part of each free.
   *
   * @throws OutOfMemoryError if all banks are full and no bank can be added.
   */
  allocateLasting(bytes: number): Place {
    const limit = (1 - SPARE_FRACTION) * this.bankBytes;
    const hasRoom = (bank: number) => this.bankHeaps[bank]!.arena.used + bytes <= limit;
    return this.allocateWhere(bytes, hasRoom) ?? this.allocateInNewBank(bytes) ?? this.allocate(bytes);
  }

  /**
   * Allocates in any bank.
   *
   * @throws OutOfMemoryError if all banks are full and no bank can be added.
   */
  allocate(bytes: number): Place {
    const place = this.allocateWhere(bytes, () => true) ?? this.allocateInNewBank(bytes);
    if (!place) throw this.outOfMemory(bytes);
    return place;
  }

  /** Adds a bank. Returns false if that is impossible, or if a bank cannot hold this many bytes. */
  extend(bytes: number): boolean {
    const memory = blockSize(bytes) <= this.bankBytes ? this.engine.addBank()?.memory : undefined;
    if (memory) this.bankHeaps.push(new BankHeap(memory, this.engine.staticBytes));
    return memory !== undefined;
  }

  release({bank, offset}: Place, bytes: number): void {
    this.bankHeaps[bank]!.arena.release(offset, bytes);
  }

  /** The error for an allocation of this many bytes that failed. */
  outOfMemory(bytes: number): OutOfMemoryError {
    return new OutOfMemoryError({bytes, used: this.used, limit: this.banks * this.bankBytes, largest: this.bankBytes});
  }

  /** Bytes of tensors that a bank can hold. */
  private get bankBytes(): number {
    return this.engine.maximumBytes - roundUp(this.engine.staticBytes, ALIGN) - TAIL_BYTES;
  }

  private allocateWhere(bytes: number, isSuitable: (bank: number) => boolean): Place | undefined {
    for (let bank = 0; bank < this.banks; bank++) {
      const offset = isSuitable(bank) ? this.allocateIn(bank, bytes) : null;
      if (offset !== null) return {bank, offset};
    }
    return undefined;
  }

  private allocateInNewBank(bytes: number): Place | undefined {
    if (!this.extend(bytes)) return undefined;
    const bank = this.banks - 1;
    const offset = this.allocateIn(bank, bytes);
    return offset === null ? undefined : {bank, offset};
  }
}

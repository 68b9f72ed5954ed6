/** Allocates tensors in the memories of an engine, from sorted lists of free ranges. */
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

/** Blocks up to this size that do not last share a range of each bank. Elsewhere they would split ranges for large ones. */
const SMALL_BYTES = 2 ** 16;
const SMALL_RANGE_BYTES = 2 ** 18;

const roundUp = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;
const blockSize = (bytes: number) => Math.max(ALIGN, roundUp(bytes, ALIGN));

interface Range {
  start: number;
  end: number;
}

/** Sorted free ranges; adjacent ones are merged. Offsets are plain numbers, because 4 GiB needs more than 31 bits. */
export class Arena {
  private readonly free: Range[] = [];
  /** End of the highest block so far. The system backs only pages that were written, so no page after it costs memory. */
  private touched = 0;
  used = 0;

  /**
   * Offset of a block of this many bytes, or null if no range is long enough. Of the ranges that are, takes the one in
   * which the block touches the least new memory; of these the shortest, which leaves the others whole for larger
   * blocks.
   */
  allocate(bytes: number): number | null {
    const size = blockSize(bytes);
    let range: Range | undefined;
    let leastNew = Infinity;
    for (const candidate of this.free) {
      const length = candidate.end - candidate.start;
      if (length < size) continue;
      const touchedNew = Math.max(0, candidate.start + size - this.touched);
      if (touchedNew > leastNew) continue;
      if (range && touchedNew === leastNew && length >= range.end - range.start) continue;
      range = candidate;
      leastNew = touchedNew;
    }
    if (!range) return null;
    const offset = range.start;
    range.start += size;
    this.touched = Math.max(this.touched, range.start);
    if (range.start === range.end) this.free.splice(this.free.indexOf(range), 1);
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
  private readonly arena = new Arena();
  /** Small blocks, and where their range begins once it exists. */
  private small = new Arena();
  private smallStart?: number;
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

  /** Bytes of all blocks. */
  get used(): number {
    return this.arena.used - (this.smallStart === undefined ? 0 : SMALL_RANGE_BYTES) + this.small.used;
  }

  /**
   * Offset of a block of this many bytes, or null if the bank is full. Grows the memory if necessary.
   *
   * @param lasting whether the block is long-lived.
   */
  allocate(bytes: number, lasting: boolean): number | null {
    const small = lasting || bytes > SMALL_BYTES ? null : this.allocateSmall(bytes);
    return small ?? this.allocateLarge(bytes) ?? (this.giveSmallBack() ? this.allocateLarge(bytes) : null);
  }

  release(offset: number, bytes: number): void {
    const start = this.smallStart ?? Infinity;
    const isSmall = offset >= start && offset < start + SMALL_RANGE_BYTES;
    (isSmall ? this.small : this.arena).release(offset, bytes);
  }

  private allocateSmall(bytes: number): number | null {
    if (this.smallStart === undefined) {
      const start = this.allocateLarge(SMALL_RANGE_BYTES);
      if (start === null) return null;
      this.smallStart = start;
      this.small.add(start, start + SMALL_RANGE_BYTES);
    }
    return this.small.allocate(bytes);
  }

  /** Frees the range of small blocks, unless one is in use. */
  private giveSmallBack(): boolean {
    if (this.smallStart === undefined || this.small.used > 0) return false;
    this.arena.release(this.smallStart, SMALL_RANGE_BYTES);
    this.smallStart = undefined;
    this.small = new Arena();
    return true;
  }

  private allocateLarge(bytes: number): number | null {
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
  /** The bank of the latest long-lived data. */
  private lastingBank = 0;

  constructor(private readonly engine: SimdEngine) {
    this.bankHeaps = engine.banks.map(({memory}) => new BankHeap(memory, engine.staticBytes));
  }

  /** Allocated bytes. */
  get used(): number {
    return this.bankHeaps.reduce((sum, {used}) => sum + used, 0);
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
  allocateIn(bank: number, bytes: number, lasting = false): number | null {
    return this.bankHeaps[bank]!.allocate(bytes, lasting);
  }

  /**
   * Allocates long-lived data, such as weights. Fills one bank after another, but leaves a part of each free as long as
   * banks can be added. Continues in the bank of the previous data, so that the small weights of a layer are near its
   * large ones: if they moved there later, they would lie between activations.
   *
   * @throws OutOfMemoryError if all banks are full and no bank can be added.
   */
  allocateLasting(bytes: number): Place {
    const limit = (1 - SPARE_FRACTION) * this.bankBytes;
    const hasRoom = (bank: number) => this.bankHeaps[bank]!.used + bytes <= limit;
    const place =
      this.lastingWhere(bytes, hasRoom) ?? this.lastingInNewBank(bytes) ?? this.lastingWhere(bytes, () => true);
    if (!place) throw this.outOfMemory(bytes);
    this.lastingBank = place.bank;
    return place;
  }

  /** Adds a bank. Returns false if that is impossible, or if a bank cannot hold this many bytes. */
  extend(bytes: number): boolean {
    const memory = blockSize(bytes) <= this.bankBytes ? this.engine.addBank()?.memory : undefined;
    if (memory) this.bankHeaps.push(new BankHeap(memory, this.engine.staticBytes));
    return memory !== undefined;
  }

  release({bank, offset}: Place, bytes: number): void {
    this.bankHeaps[bank]!.release(offset, bytes);
  }

  /** The error for an allocation of this many bytes that failed. */
  outOfMemory(bytes: number): OutOfMemoryError {
    return new OutOfMemoryError({bytes, used: this.used, limit: this.banks * this.bankBytes, largest: this.bankBytes});
  }

  /** Bytes of tensors that a bank can hold. */
  private get bankBytes(): number {
    return this.engine.maximumBytes - roundUp(this.engine.staticBytes, ALIGN) - TAIL_BYTES;
  }

  /** Asks the bank of the latest long-lived data first; the others follow in order, in a circle. */
  private lastingWhere(bytes: number, isSuitable: (bank: number) => boolean): Place | undefined {
    for (let i = 0; i < this.banks; i++) {
      const bank = (this.lastingBank + i) % this.banks;
      const offset = isSuitable(bank) ? this.allocateIn(bank, bytes, true) : null;
      if (offset !== null) return {bank, offset};
    }
    return undefined;
  }

  private lastingInNewBank(bytes: number): Place | undefined {
    if (!this.extend(bytes)) return undefined;
    const bank = this.banks - 1;
    const offset = this.allocateIn(bank, bytes, true);
    return offset === null ? undefined : {bank, offset};
  }
}

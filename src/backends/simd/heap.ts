/** Room for tensors in a WebAssembly memory: first fit over a sorted list of free ranges. */
import {ValueError} from '../../errors';
import {type SimdEngine} from './simd_engine';

/** Cache lines, and what SIMD loads like. */
const ALIGN = 64;
const PAGE = 65536;
/** The end of a memory of 4 GiB stays free: kernels may load a vector past a tensor's end. */
const TAIL = 64;
/** A memory grows by this much at least: growing is cheap, but each time every view must be made anew. */
const GROW = 64 * 2 ** 20;

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

export class Heap {
  readonly arena = new Arena();
  private end: number;

  constructor(readonly engine: SimdEngine) {
    this.end = engine.memory.buffer.byteLength;
    const start = up(engine.staticBytes, ALIGN);
    if (this.end - TAIL > start) this.arena.add(start, this.end - TAIL);
    else this.end = Math.max(this.end, start + TAIL);
  }

  get buffer(): ArrayBufferLike {
    return this.engine.memory.buffer;
  }

  /**
   * Offset of `bytes` free bytes; the memory grows if it must.
   *
   * @throws ValueError naming the bytes wanted if the memory is full.
   */
  allocate(bytes: number): number {
    const found = this.arena.allocate(bytes) ?? (this.grow(sizeOf(bytes)) ? this.arena.allocate(bytes) : null);
    if (found === null) {
      throw new ValueError(
        `The WebAssembly memory has no room for a tensor of ${bytes} bytes beside the ${this.arena.used} in use: it ends ` +
          'at 4 GiB. Load the model with a dtype of fewer bits, such as "bfloat16", or use the backend "cpu".',
      );
    }
    return found;
  }

  private grow(bytes: number): boolean {
    const {memory} = this.engine;
    const pages = up(bytes + TAIL, PAGE) / PAGE;
    for (const wanted of [Math.max(pages, GROW / PAGE), pages]) {
      try {
        memory.grow(wanted);
      } catch {
        continue;
      }
      const end = memory.buffer.byteLength;
      this.arena.add(this.end - TAIL, end - TAIL);
      this.end = end;
      return true;
    }
    return false;
  }

  release(offset: number, bytes: number): void {
    this.arena.release(offset, bytes);
  }
}

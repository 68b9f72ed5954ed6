/** Chunked arrays: finds the chunks, and reads bytes of the array from them. */
import {type ByteSource} from '../../base/byte_source';
import {BlockReader} from './block_reader';
import {type ChunkIndex, readChunkIndex, type StoredChunk} from './chunk_index';
import {damagedFile} from './errors';
import {type Filter, undoFilters} from './filters';

/** Bytes of unpacked chunks that a file keeps. Pieces of an array are read in order, and chunks span several pieces. */
const CACHE_LIMIT = 64 * 2 ** 20;

/** Unpacked chunks of a file, the most recently used ones. */
export class ChunkCache {
  private readonly chunks = new Map<string, Uint8Array>();
  private size = 0;

  get(key: string): Uint8Array | undefined {
    const found = this.chunks.get(key);
    if (found) {
      this.chunks.delete(key);
      this.chunks.set(key, found);
    }
    return found;
  }

  /** A chunk that is too large for the cache is kept alone. */
  add(key: string, bytes: Uint8Array): void {
    if (this.chunks.has(key)) return;
    for (const [old, {length}] of this.chunks) {
      if (this.size + bytes.length <= CACHE_LIMIT) break;
      this.chunks.delete(old);
      this.size -= length;
    }
    this.chunks.set(key, bytes);
    this.size += bytes.length;
  }
}

/** What the headers say about an array in chunks. */
export interface ChunkedLayout {
  readonly shape: readonly number[];
  readonly chunkShape: readonly number[];
  readonly itemSize: number;
  readonly index: ChunkIndex;
  readonly filters: readonly Filter[];
  /** One element, for chunks that were never written. */
  readonly fill: Uint8Array;
}

/** The bytes of an array in chunks. The positions of all chunks are read with the first chunk. */
export class ChunkedBytes {
  private places?: Promise<ReadonlyMap<number, StoredChunk>>;
  /** Number of chunks along each axis. */
  private readonly grid: readonly number[];
  private readonly chunkBytes: number;

  constructor(
    private readonly source: ByteSource,
    private readonly end: number,
    private readonly subject: string,
    private readonly layout: ChunkedLayout,
    private readonly cache: ChunkCache,
  ) {
    const {shape, chunkShape, itemSize} = layout;
    this.grid = shape.map((size, axis) => Math.ceil(size / chunkShape[axis]!));
    this.chunkBytes = chunkShape.reduce((product, size) => product * size, itemSize);
  }

  /** Fills `target` with the bytes of the array from `start` on. Each chunk is unpacked once. */
  async readInto(start: number, target: Uint8Array): Promise<void> {
    const {shape, itemSize} = this.layout;
    // Whole elements: the target may begin and end inside one.
    const [first, last] = [Math.floor(start / itemSize), Math.floor((start + target.length - 1) / itemSize)];
    const outer = shape.slice(1).reduce((product, size) => product * size, 1);
    const [from, to] = [Math.floor(first / outer), Math.floor(last / outer)];
    const [tall] = this.layout.chunkShape;
    const row = this.grid.slice(1).reduce((product, size) => product * size, 1);
    for (let band = Math.floor(from / tall!); band <= Math.floor(to / tall!); band++) {
      for (let i = 0; i < row; i++) await this.copyChunk(band * row + i, start, target);
    }
  }

  /** Copies the overlap of a chunk and the range, run by run along the last axis. */
  private async copyChunk(number: number, start: number, target: Uint8Array): Promise<void> {
    const {shape, chunkShape, itemSize, fill} = this.layout;
    const rank = shape.length;
    const origin: number[] = [];
    for (let axis = rank - 1, rest = number; axis >= 0; axis--) {
      origin.unshift((rest % this.grid[axis]!) * chunkShape[axis]!);
      rest = Math.floor(rest / this.grid[axis]!);
    }
    const extent = shape.map((size, axis) => Math.min(chunkShape[axis]!, size - origin[axis]!));
    const run = extent[rank - 1]! * itemSize;
    const runs = extent.slice(0, -1).reduce((product, size) => product * size, 1);
    const end = start + target.length;
    let bytes: Uint8Array | null | undefined;
    const at = new Array<number>(rank).fill(0);
    for (let i = 0; i < runs; i++) {
      let [place, inside] = [0, 0];
      for (let axis = 0; axis < rank; axis++) {
        place = place * shape[axis]! + origin[axis]! + at[axis]!;
        inside = inside * chunkShape[axis]! + at[axis]!;
      }
      place *= itemSize;
      inside *= itemSize;
      const [low, high] = [Math.max(place, start), Math.min(place + run, end)];
      if (low < high) {
        if (bytes === undefined) bytes = await this.chunk(number);
        const part = target.subarray(low - start, high - start);
        if (bytes) part.set(bytes.subarray(inside + low - place, inside + high - place));
        else for (let i = 0; i < part.length; i++) part[i] = fill[(low + i) % itemSize]!;
      } else if (place >= end) {
        break;
      }
      for (let axis = rank - 2; axis >= 0; axis--) {
        at[axis]!++;
        if (at[axis]! < extent[axis]!) break;
        at[axis] = 0;
      }
    }
  }

  /** The bytes of a chunk without filters; null for one that was never written. */
  private async chunk(number: number): Promise<Uint8Array | null> {
    const {index, filters, chunkShape, itemSize} = this.layout;
    const key = `${this.subject} ${number}`;
    const kept = this.cache.get(key);
    if (kept) return kept;
    this.places ??= readChunkIndex(new BlockReader(this.source, this.end), index, {
      grid: this.grid,
      chunkShape,
      itemSize,
      chunkBytes: this.chunkBytes,
      filtered: filters.length > 0,
    });
    const found = (await this.places).get(number);
    if (!found) return null;
    const damaged = (expected: string, received: string) =>
      damagedFile(this.source.name, `${expected} in chunk ${number} of the ${this.subject}`, received);
    if (found.address + found.size > this.end) throw damaged('bytes inside the file', `byte ${found.address}`);
    // No filter makes data much longer, or less than a thousandth as long.
    if (found.size > 2 * this.chunkBytes + 4096 || this.chunkBytes > 1100 * found.size) {
      throw damaged(`data for ${this.chunkBytes} bytes`, `${found.size} bytes`);
    }
    const stored = new Uint8Array(found.size);
    await this.source.readInto(found.address, stored);
    const bytes = await undoFilters(stored, filters, found.mask, this.chunkBytes, damaged);
    this.cache.add(key, bytes);
    return bytes;
  }
}

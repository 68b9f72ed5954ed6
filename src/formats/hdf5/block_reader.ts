import {type ByteSource} from '../../base/byte_source';
import {Cursor} from './cursor';
import {damagedFile} from './errors';

/**
 * Bytes fetched at once. h5py allocates metadata in runs of some kilobytes that lie between the datasets, so a block
 * should reach over the neighbouring structures (headers, B-tree nodes, name heaps), but what it reaches into the tensors
 * around them is wasted. The file of a 270M model (537 MB, 658 groups, 236 datasets) opens with 349 reads (1.4 MB) at
 * 4 kB, 185 reads (3.0 MB) at 16 kB and 143 reads (9.3 MB) at 64 kB: beyond 16 kB, bytes grow and reads hardly fall.
 */
const BLOCK_SIZE = 16_384;

/** Bytes of structures that opening may ask for in all. No model comes near it; what does is damaged or hostile. */
const METADATA_LIMIT = 256 * 2 ** 20;

/** The largest single structure (a group's names, one chunk of an object header) that is believed. */
const STRUCTURE_LIMIT = 16 * 2 ** 20;

/** Reads the small structures of a file through a cache of blocks, over a source whose every read may be a request. */
export class BlockReader {
  private readonly blocks = new Map<number, Promise<Uint8Array>>();
  private served = 0;

  /** @param end where the file ends according to both itself and the source: nothing beyond is read. */
  constructor(
    private readonly source: ByteSource,
    readonly end: number,
  ) {}

  get file(): string {
    return this.source.name;
  }

  /** A cursor over `length` bytes at `offset`; `what` names the structure in errors. */
  async read(offset: number, length: number, what: string): Promise<Cursor> {
    const name = `the ${what} at byte ${offset}`;
    if (offset + length > this.end) {
      throw damagedFile(this.file, `${name} to lie inside the file`, `${length} bytes in a file of ${this.end} bytes`);
    }
    if (length > STRUCTURE_LIMIT) {
      throw damagedFile(this.file, `${name} to have at most ${STRUCTURE_LIMIT} bytes`, `${length} bytes`);
    }
    this.served += length;
    if (this.served > METADATA_LIMIT) {
      throw damagedFile(this.file, `at most ${METADATA_LIMIT} bytes of metadata`, `more, in ${name}`);
    }
    if (length === 0) return new Cursor(this.file, name, new Uint8Array(0));
    const first = Math.floor(offset / BLOCK_SIZE);
    const last = Math.floor((offset + length - 1) / BLOCK_SIZE);
    this.request(first, last);
    const blocks = await Promise.all(Array.from({length: last - first + 1}, (_, i) => this.blocks.get(first + i)));
    const start = offset - first * BLOCK_SIZE;
    const only = blocks[0];
    if (blocks.length === 1 && only) return new Cursor(this.file, name, only.subarray(start, start + length));
    const bytes = new Uint8Array(length);
    let filled = 0;
    for (const block of blocks) {
      if (!block) break;
      const from = filled === 0 ? start : 0;
      const piece = block.subarray(from, Math.min(block.length, from + length - filled));
      bytes.set(piece, filled);
      filled += piece.length;
    }
    return new Cursor(this.file, name, bytes);
  }

  /** Starts fetching the blocks that are not here or on their way; neighbours come in one read. */
  private request(first: number, last: number): void {
    for (let block = first; block <= last; block++) {
      if (this.blocks.has(block)) continue;
      let stop = block + 1;
      while (stop <= last && !this.blocks.has(stop)) stop++;
      const start = block * BLOCK_SIZE;
      const bytes = new Uint8Array(Math.min(stop * BLOCK_SIZE, this.end) - start);
      const fetched = this.source.readInto(start, bytes);
      for (let i = block; i < stop; i++) {
        const from = (i - block) * BLOCK_SIZE;
        this.blocks.set(
          i,
          fetched.then(() => bytes.subarray(from, from + BLOCK_SIZE)),
        );
      }
      block = stop - 1;
    }
  }
}

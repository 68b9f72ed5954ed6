/** Cached reads of the small structures of a file. */
import {type ByteSource} from '../../base/byte_source';
import {Cursor} from './cursor';
import {damagedFile} from './errors';

/**
 * Bytes per block. h5py allocates metadata in runs of a few kilobytes between the datasets. A block should cover
 * neighbouring structures (headers, B-tree nodes, name heaps), but bytes of the tensors around them are wasted. The
 * file of a 270M model (537 MB, 658 groups, 236 datasets) opens with 349 reads (1.4 MB) at 4 kB, 185 reads (3.0 MB) at
 * 16 kB and 143 reads (9.3 MB) at 64 kB: above 16 kB the bytes grow, while the reads hardly decrease. A source on which
 * bytes are cheaper than reads has its own size (`blockSize`).
 */
const BLOCK_SIZE = 16_384;

/** Maximum bytes of metadata read in total. No model comes close, so a file that exceeds it is damaged or hostile. */
const METADATA_LIMIT = 256 * 2 ** 20;

/** Maximum bytes of a single structure (a group's names, one chunk of an object header). */
const STRUCTURE_LIMIT = 16 * 2 ** 20;

/** Reads structures through a cache of blocks, because each read of the source may be a request to a server. */
export class BlockReader {
  private readonly blocks = new Map<number, Promise<Uint8Array>>();
  private served = 0;
  private readonly blockSize: number;

  /** @param end the end of the file's contents; nothing after it is read. */
  constructor(
    private readonly source: ByteSource,
    readonly end: number,
  ) {
    this.blockSize = source.blockSize ?? BLOCK_SIZE;
  }

  get file(): string {
    return this.source.name;
  }

  /** A cursor over `length` bytes at `offset`; `what` names the structure in errors. */
  async read(offset: number, length: number, what: string): Promise<Cursor> {
    const {blockSize} = this;
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
    const first = Math.floor(offset / blockSize);
    const last = Math.floor((offset + length - 1) / blockSize);
    this.request(first, last);
    const blocks = await Promise.all(
      Array.from({length: last - first + 1}, async (_, i) => this.blocks.get(first + i)),
    );
    const start = offset - first * blockSize;
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

  /** Starts fetching the blocks that are neither cached nor being fetched. Adjacent blocks share one read. */
  private request(first: number, last: number): void {
    const {blockSize} = this;
    for (let block = first; block <= last; block++) {
      if (this.blocks.has(block)) continue;
      let stop = block + 1;
      while (stop <= last && !this.blocks.has(stop)) stop++;
      const start = block * blockSize;
      const bytes = new Uint8Array(Math.min(stop * blockSize, this.end) - start);
      const fetched = this.source.readInto(start, bytes);
      for (let i = block; i < stop; i++) {
        const from = (i - block) * blockSize;
        this.blocks.set(
          i,
          fetched.then(() => bytes.subarray(from, from + blockSize)),
        );
      }
      block = stop - 1;
    }
  }
}

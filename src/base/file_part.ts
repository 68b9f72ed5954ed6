/** A part of a file, read as if it were a file. */
import {type ByteRange, type ByteSource, truncated} from './byte_source';

/** Bytes `start` to `start + size - 1` of a file. Closing it leaves the file open. */
export class FilePart implements ByteSource {
  constructor(
    readonly name: string,
    protected readonly file: ByteSource,
    protected readonly start: number,
    readonly size: number,
  ) {}

  get blockSize(): number | undefined {
    return this.file.blockSize;
  }

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset < 0 || offset + target.length > this.size) throw truncated(this, offset + target.length);
    await this.file.readInto(this.start + offset, target);
  }

  readAhead(ranges: readonly ByteRange[]): void {
    this.file.readAhead?.(ranges.map(({start, end}) => ({start: start + this.start, end: end + this.start})));
  }

  async close(): Promise<void> {}
}

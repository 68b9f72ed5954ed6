/** Fractal heaps, which hold the links of large groups and many attributes: blocks that double in size, row by row. */
import {type BlockReader} from './block_reader';
import {bytesFor} from './btree2';
import {type Cursor} from './cursor';
import {unsupportedFeature} from './errors';

/** A heap whose objects are read by their ids. */
export class FractalHeap {
  private constructor(
    private readonly reader: BlockReader,
    private readonly subject: string,
    private readonly offsetSize: number,
    private readonly lengthSize: number,
    private readonly width: number,
    private readonly startSize: number,
    private readonly directRows: number,
    private readonly root: number | undefined,
    private readonly rootRows: number,
  ) {}

  /** @param subject the object whose links or attributes these are, for errors. */
  static async open(reader: BlockReader, address: number, subject: string): Promise<FractalHeap> {
    const header = await reader.read(address, 142, 'fractal heap');
    header.signature('FRHP');
    const version = header.u8();
    if (version !== 0) throw header.damaged('version 0', `version ${version}`);
    header.skip(2);
    if (header.u16() !== 0) throw unsupportedFeature(reader.file, subject, 'names as they are', 'compressed names');
    header.skip(1);
    const managed = header.u32();
    header.skip(12 * 8);
    const width = header.u16();
    const [startSize, largest] = [header.u64(), header.u64()];
    const bits = header.u16();
    header.skip(2);
    const root = header.address();
    const rows = header.u16();
    const power = (size: number) => size > 0 && Number.isInteger(Math.log2(size));
    if (width === 0 || !power(startSize) || !power(largest) || largest < startSize || bits > 64 || rows > 64) {
      throw header.damaged('blocks whose sizes are powers of two', `${startSize} to ${largest}, in rows of ${width}`);
    }
    const lengthSize = Math.min(bytesFor(largest), bytesFor(managed));
    const directRows = Math.log2(largest / startSize) + 2;
    const offsetSize = Math.ceil(bits / 8);
    return new FractalHeap(reader, subject, offsetSize, lengthSize, width, startSize, directRows, root, rows);
  }

  /** The bytes of an object. */
  async object(id: Cursor): Promise<Cursor> {
    const kind = (id.u8() >> 4) & 3;
    if (kind !== 0) throw unsupportedFeature(this.reader.file, this.subject, 'short names and values', 'a huge one');
    const [offset, length] = [id.uint(this.offsetSize), id.uint(this.lengthSize)];
    const missing = () => id.damaged('the place of an object of the heap', `byte ${offset}`);
    if (this.root === undefined) throw missing();
    if (this.rootRows === 0) {
      if (offset + length > this.startSize) throw missing();
      return this.reader.read(this.root + offset, length, 'object of a heap');
    }
    let [block, rows, at] = [this.root, this.rootRows, offset];
    // Each block is smaller than the previous one.
    for (let depth = 0; depth < 64; depth++) {
      const {row, column, rest, size} = this.place(at, rows) ?? {};
      if (row === undefined) throw missing();
      const header = 4 + 1 + 8 + this.offsetSize;
      const entry = await this.reader.read(block, header + 8 * (row * this.width + column! + 1), 'indirect block');
      entry.signature('FHIB');
      entry.skip(entry.bytes.length - 4 - 8);
      block = entry.definedAddress('a block of the heap');
      at = rest!;
      if (row < this.directRows) {
        if (at + length > size!) throw missing();
        return this.reader.read(block + at, length, 'object of a heap');
      }
      rows = Math.log2(size! / (this.startSize * this.width)) + 1;
    }
    throw missing();
  }

  /** Where a byte is in an indirect block: row, column, and its place in the block there. */
  private place(offset: number, rows: number) {
    let start = 0;
    for (let row = 0; row < rows; row++) {
      const size = this.startSize * 2 ** Math.max(0, row - 1);
      const end = start + size * this.width;
      if (offset < end) {
        const column = Math.floor((offset - start) / size);
        return {row, column, rest: offset - start - column * size, size};
      }
      start = end;
    }
    return undefined;
  }
}

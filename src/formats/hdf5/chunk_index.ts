/** The index of a chunked array: the position of each chunk in the file. */
import {type BlockReader} from './block_reader';
import {readBTree2} from './btree2';
import {type Cursor} from './cursor';
import {damagedFile} from './errors';

/** A chunk in the file. */
export interface StoredChunk {
  readonly address: number;
  /** Bytes in the file, after filters. */
  readonly size: number;
  /** A bit for each filter that was not applied. */
  readonly mask: number;
}

/** How the positions of the chunks are stored. */
export type ChunkIndex =
  | {readonly kind: 'tree'; readonly address: number}
  | {readonly kind: 'tree 2'; readonly address: number}
  | {readonly kind: 'array'; readonly address: number}
  | {readonly kind: 'in order'; readonly address: number}
  /** Without filters the size is that of the chunk. */
  | {readonly kind: 'single'; readonly address: number; readonly size?: number; readonly mask: number};

/** The chunks of an array. */
export interface ChunkGrid {
  /** Number of chunks along each axis. */
  readonly grid: readonly number[];
  readonly chunkShape: readonly number[];
  readonly itemSize: number;
  /** Bytes of a chunk without filters. */
  readonly chunkBytes: number;
  readonly filtered: boolean;
}

/** Maximum number of chunks. A tensor of 4 GB in chunks of 16 kB, smaller than those of h5py, has 262,144. */
const CHUNK_LIMIT = 4_000_000;

/** The chunks that were written, by their number in C order. */
export async function readChunkIndex(
  reader: BlockReader,
  index: ChunkIndex,
  grid: ChunkGrid,
): Promise<ReadonlyMap<number, StoredChunk>> {
  const chunks = new Map<number, StoredChunk>();
  const {address} = index;
  const {chunkBytes} = grid;
  const count = grid.grid.reduce((product, size) => product * size, 1);
  if (count > CHUNK_LIMIT) throw damagedFile(reader.file, `arrays of at most ${CHUNK_LIMIT} chunks`, `${count}`);
  switch (index.kind) {
    case 'single':
      chunks.set(0, {address, size: index.size ?? chunkBytes, mask: index.mask});
      break;
    case 'in order':
      for (let i = 0; i < count; i++) chunks.set(i, {address: address + i * chunkBytes, size: chunkBytes, mask: 0});
      break;
    case 'array':
      await readFixedArray(reader, address, count, grid, chunks);
      break;
    case 'tree':
      await readTree(reader, address, undefined, grid, chunks, new Set());
      break;
    case 'tree 2':
      await readBTree2(reader, address, grid.filtered ? 11 : 10, record => {
        const sizes = record.remaining - 8 - 8 * grid.grid.length;
        const place = record.definedAddress('a chunk');
        const [size, mask] = grid.filtered ? [record.uint(sizes - 4), record.u32()] : [chunkBytes, 0];
        const scaled = grid.grid.map(() => record.u64());
        chunks.set(numberOf(record, scaled, grid), {address: place, size, mask});
      });
  }
  return chunks;
}

/** The number of a chunk from its place in the grid. */
function numberOf(cursor: Cursor, place: readonly number[], {grid}: ChunkGrid): number {
  return place.reduce((number, at, axis) => {
    if (at >= grid[axis]!) throw cursor.damaged(`chunks inside a grid of ${grid.join(' x ')}`, place.join(' x '));
    return number * grid[axis]! + at;
  }, 0);
}

/** Collects the chunks below a node of a version 1 B-tree. Levels must decrease by one, which bounds the depth. */
async function readTree(
  reader: BlockReader,
  address: number,
  expectedLevel: number | undefined,
  grid: ChunkGrid,
  chunks: Map<number, StoredChunk>,
  visited: Set<number>,
): Promise<void> {
  const rank = grid.grid.length;
  const node = await reader.read(address, 24, 'B-tree node');
  if (visited.has(address)) throw node.damaged('nodes that are linked once', 'a loop');
  visited.add(address);
  node.signature('TREE');
  const type = node.u8();
  if (type !== 1) throw node.damaged('a node of chunks (type 1)', `type ${type}`);
  const level = node.u8();
  if (expectedLevel !== undefined && level !== expectedLevel) {
    throw node.damaged(`level ${expectedLevel}`, `level ${level}`);
  }
  const count = node.u16();
  const entries = await reader.read(address + 24, count * (8 + 8 * (rank + 1) + 8), 'B-tree node entries');
  const children: number[] = [];
  for (let i = 0; i < count; i++) {
    const [size, mask] = [entries.u32(), entries.u32()];
    const offsets = Array.from({length: rank}, () => entries.u64());
    entries.skip(8);
    const child = entries.definedAddress('a child');
    if (level > 0) {
      children.push(child);
      continue;
    }
    const place = offsets.map((offset, axis) => offset / grid.chunkShape[axis]!);
    if (!place.every(Number.isInteger)) throw entries.damaged('places of chunks', offsets.join(' x '));
    chunks.set(numberOf(entries, place, grid), {address: child, size, mask});
    if (chunks.size > CHUNK_LIMIT) throw entries.damaged(`at most ${CHUNK_LIMIT} chunks`, 'more');
  }
  for (const child of children) await readTree(reader, child, level - 1, grid, chunks, visited);
}

/** An array with an entry for each chunk; large arrays are divided into pages. */
async function readFixedArray(
  reader: BlockReader,
  address: number,
  count: number,
  {filtered, chunkBytes}: ChunkGrid,
  chunks: Map<number, StoredChunk>,
): Promise<void> {
  const header = await reader.read(address, 24, 'array of chunks');
  header.signature('FAHD');
  header.skip(1);
  const client = header.u8();
  if (client !== (filtered ? 1 : 0)) throw header.damaged(`entries of kind ${filtered ? 1 : 0}`, `kind ${client}`);
  const [entrySize, pageBits] = [header.u8(), header.u8()];
  const entries = header.u64();
  const block = header.definedAddress('the entries');
  if (entries < count) throw header.damaged(`${count} chunks`, `${entries}`);
  if (entrySize < (filtered ? 13 : 8)) throw header.damaged('entries of at least 8 bytes', `${entrySize}`);
  if (entries > CHUNK_LIMIT) throw header.damaged(`at most ${CHUNK_LIMIT} chunks`, `${entries}`);
  const add = (entry: Cursor, i: number) => {
    const place = entry.address();
    const [size, mask] = filtered ? [entry.uint(entrySize - 12), entry.u32()] : [chunkBytes, 0];
    if (!filtered) entry.skip(entrySize - 8);
    if (place !== undefined && i < count) chunks.set(i, {address: place, size, mask});
  };
  const perPage = 2 ** pageBits;
  const prefix = 4 + 1 + 1 + 8;
  const pages = entries > perPage ? Math.ceil(entries / perPage) : 0;
  const bitmapSize = Math.ceil(pages / 8);
  const length = prefix + (pages ? bitmapSize + 4 : entries * entrySize);
  const data = await reader.read(block, length, 'entries of an array of chunks');
  data.signature('FADB');
  data.skip(prefix - 4);
  if (!pages) {
    for (let i = 0; i < entries; i++) add(data, i);
    return;
  }
  const bitmap = data.take(bitmapSize);
  for (let page = 0; page < pages; page++) {
    // Pages without a chunk are not initialized.
    if (!((bitmap[page >> 3]! << (page & 7)) & 0x80)) continue;
    const start = block + length + page * (perPage * entrySize + 4);
    const size = Math.min(perPage, entries - page * perPage);
    const part = await reader.read(start, size * entrySize, 'page of an array of chunks');
    for (let i = 0; i < size; i++) add(part, page * perPage + i);
  }
}

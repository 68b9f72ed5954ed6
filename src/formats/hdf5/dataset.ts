/** Datasets: the description is read from the object header, the bytes on request. */
import {type BytePlace, type ByteSource} from '../../base/byte_source';
import {readAttribute} from './attributes';
import {type BlockReader} from './block_reader';
import {type ChunkIndex} from './chunk_index';
import {type ChunkCache, ChunkedBytes} from './chunks';
import {type Cursor} from './cursor';
import {arrayBytes, type Hdf5Dtype, readDataspace, readDatatype} from './datatype';
import {damagedFile, unsupportedFeature} from './errors';
import {readFilters, unknownFilter} from './filters';
import {MessageType, type ObjectHeader} from './object_header';

/** One array of the file: its description, and its bytes on request. */
export interface Hdf5Dataset {
  /** Names of the groups and of the dataset, joined with "/", without a leading "/". */
  readonly path: string;
  /** Empty for a scalar. */
  readonly shape: readonly number[];
  readonly dtype: Hdf5Dtype;
  /** Bytes of one element. */
  readonly itemSize: number;
  readonly byteLength: number;
  /** Where its bytes are in the file. Empty if they have no separate place. */
  readonly places: readonly BytePlace[];
  /**
   * Fills `target` with the dataset's little-endian bytes from byte `start` on.
   *
   * @throws if the range extends beyond the dataset.
   */
  readInto(start: number, target: Uint8Array): Promise<void>;
}

/** A dataset's bytes: an address in the file; for compact layout, a copy from the object header; or chunks. */
type Storage = {readonly address: number} | {readonly bytes: Uint8Array} | {readonly chunked: ChunkedBytes};

class StoredDataset implements Hdf5Dataset {
  constructor(
    private readonly source: ByteSource,
    readonly path: string,
    readonly shape: readonly number[],
    readonly dtype: Hdf5Dtype,
    readonly itemSize: number,
    readonly byteLength: number,
    private readonly storage: Storage,
  ) {}

  get places(): readonly BytePlace[] {
    if (!('address' in this.storage)) return [];
    const {address: start} = this.storage;
    return [{source: this.source, start, end: start + this.byteLength}];
  }

  async readInto(start: number, target: Uint8Array): Promise<void> {
    if (!Number.isInteger(start) || start < 0 || start + target.length > this.byteLength) {
      throw new Error(
        `The dataset "${this.path}" of "${this.source.name}" has ${this.byteLength} bytes: expected a range inside ` +
          `them. Received: ${target.length} bytes from ${start}. Read no further than the dataset's byteLength.`,
      );
    }
    if (target.length === 0) return;
    if ('bytes' in this.storage) target.set(this.storage.bytes.subarray(start, start + target.length));
    else if ('chunked' in this.storage) await this.storage.chunked.readInto(start, target);
    else await this.source.readInto(this.storage.address + start, target);
  }
}

/** Whether the object is a dataset. */
export function isDataset(header: ObjectHeader): boolean {
  return header.has(MessageType.Layout) || header.has(MessageType.Dataspace);
}

/**
 * Reads the description of a dataset.
 *
 * @throws {UnsupportedFeature} if only this dataset cannot be read. After any other error, nothing in the file can be
 * trusted.
 */
export async function readDataset(
  source: ByteSource,
  reader: BlockReader,
  header: ObjectHeader,
  path: string,
  cache: ChunkCache,
): Promise<Hdf5Dataset> {
  const subject = `dataset "${path}"`;
  const refuse = (expected: string, received: string) => unsupportedFeature(source.name, subject, expected, received);
  const message = (type: number, what: string): Cursor => {
    const found = header.first(type, subject);
    if (found) return found;
    throw damagedFile(source.name, `the ${what} of the ${subject}`, 'an object header without it');
  };

  if (header.isShared(MessageType.Datatype) || header.isShared(MessageType.Dataspace)) {
    throw refuse('its own type and shape', 'ones shared with other objects (a committed datatype)');
  }
  const space = message(MessageType.Dataspace, 'shape');
  const shape = readDataspace(space);
  const type = readDatatype(message(MessageType.Datatype, 'type'));
  if (!shape) throw refuse('an array', 'a null dataspace: it holds no data');
  const byteLength = arrayBytes(space, shape, type.size);
  if (header.has(MessageType.ExternalFiles)) throw refuse('its data in this file', 'data in external files');
  const filtered = header.first(MessageType.Filters, subject);
  const filters = filtered ? readFilters(filtered) : [];
  const unknown = unknownFilter(filters);
  if (unknown) throw refuse('gzip, lzf, shuffle or fletcher32 as filters', `the filter ${unknown}`);
  const layout = readLayout(message(MessageType.Layout, 'layout'), byteLength, subject, refuse);
  let storage: Storage | undefined;
  if (layout && 'index' in layout) {
    const {chunkShape, index} = layout;
    if (chunkShape.length !== shape.length || layout.itemSize !== type.size) {
      throw damagedFile(
        source.name,
        `chunks of rank ${shape.length} and elements of ${type.size} bytes in the ${subject}`,
        `chunks of rank ${chunkShape.length} and elements of ${layout.itemSize} bytes`,
      );
    }
    const chunks = {shape, chunkShape, itemSize: type.size, index, filters, fill: readFill(header, subject, type.size)};
    storage = {chunked: new ChunkedBytes(source, reader.end, subject, chunks, cache)};
  } else {
    storage = layout;
  }
  if (storage === undefined && byteLength > 0) {
    throw refuse(`${byteLength} bytes of data`, 'no storage: it holds no data, because nothing was written to it');
  }
  if (storage && 'address' in storage && storage.address + byteLength > reader.end) {
    throw damagedFile(
      source.name,
      `the ${subject} to lie inside the file`,
      `${byteLength} bytes at byte ${storage.address} in a file of ${reader.end} bytes`,
    );
  }

  let dtype: Hdf5Dtype;
  if (type.kind === 'number') {
    dtype = type.dtype;
  } else if (type.kind === 'opaque') {
    const attribute = await readAttribute(reader, header, 'dtype', subject);
    if (type.size !== 2 || attribute !== 'bfloat16') {
      const note =
        attribute === undefined ? 'no attribute "dtype"' : `the attribute dtype=${JSON.stringify(attribute)}`;
      throw refuse('numbers, or bfloat16 as Keras stores it', `opaque elements of ${type.size} bytes with ${note}`);
    }
    dtype = 'bfloat16';
  } else {
    const received = type.kind === 'unsupported' ? type.description : 'strings';
    throw refuse('little-endian numbers of 8 to 64 bits', received);
  }
  return new StoredDataset(source, path, shape, dtype, type.size, byteLength, storage ?? {bytes: new Uint8Array(0)});
}

/** Chunks as a layout message describes them. */
interface ChunkLayout {
  readonly chunkShape: readonly number[];
  readonly itemSize: number;
  readonly index: ChunkIndex;
}

/** Where the bytes are, or undefined if no storage was allocated. */
function readLayout(
  layout: Cursor,
  byteLength: number,
  subject: string,
  refuse: (expected: string, received: string) => Error,
): Exclude<Storage, {chunked: unknown}> | ChunkLayout | undefined {
  const version = layout.u8();
  if (version < 3 || version > 5) throw refuse('a data layout of version 3 to 5', `version ${version}`);
  const kind = layout.u8();
  if (kind === 0) {
    const size = layout.u16();
    if (size !== byteLength) throw layout.damaged(`${byteLength} bytes for the ${subject}`, `${size} bytes`);
    // Copied, so that the cached block can be freed.
    return {bytes: layout.take(size).slice()};
  }
  if (kind === 1) {
    const address = layout.address();
    const size = layout.u64();
    if (address === undefined) return undefined;
    if (size !== byteLength) throw layout.damaged(`${byteLength} bytes for the ${subject}`, `${size} bytes`);
    return {address};
  }
  if (kind === 2) return version === 3 ? readOldChunks(layout) : readNewChunks(layout, version, refuse);
  if (kind === 3) throw refuse('its data in this file', 'a virtual dataset, whose data are in other files');
  throw layout.damaged('a layout of class 0 to 3', `class ${kind}`);
}

function readOldChunks(layout: Cursor): ChunkLayout | undefined {
  const rank = checkRank(layout, layout.u8());
  const address = layout.address();
  const chunkShape = Array.from({length: rank}, () => checkSide(layout, layout.u32()));
  const itemSize = layout.u32();
  return address === undefined ? undefined : {chunkShape, itemSize, index: {kind: 'tree', address}};
}

/** Kinds of index that are written with libver="latest", by number. */
const INDEXES = {2: 'in order', 3: 'array', 5: 'tree 2'} as const;

function readNewChunks(
  layout: Cursor,
  version: number,
  refuse: (expected: string, received: string) => Error,
): ChunkLayout | undefined {
  if (version !== 4) throw refuse('chunks of layout version 3 or 4', `chunks of version ${version}`);
  const flags = layout.u8();
  const rank = checkRank(layout, layout.u8());
  const width = layout.u8();
  const chunkShape = Array.from({length: rank}, () => checkSide(layout, layout.uint(width)));
  const itemSize = layout.uint(width);
  const kind = layout.u8();
  if (kind === 1) {
    const filtered = (flags & 2) !== 0;
    const [size, mask] = filtered ? [layout.u64(), layout.u32()] : [undefined, 0];
    const address = layout.address();
    return address === undefined ? undefined : {chunkShape, itemSize, index: {kind: 'single', address, size, mask}};
  }
  if (kind === 4) {
    throw refuse(
      'an array of fixed size, or one without libver="latest"',
      'a resizable array (maxshape) with an extensible array of chunks',
    );
  }
  if (kind !== 2 && kind !== 3 && kind !== 5) throw layout.damaged('an index of chunks of kind 1 to 5', `kind ${kind}`);
  layout.skip({2: 0, 3: 1, 5: 6}[kind]);
  const address = layout.address();
  return address === undefined ? undefined : {chunkShape, itemSize, index: {kind: INDEXES[kind], address}};
}

/** The rank in a layout counts the bytes of an element as an axis. */
function checkRank(layout: Cursor, rank: number): number {
  if (rank < 2 || rank > 33) throw layout.damaged('chunks of 1 to 32 axes', `${rank - 1}`);
  return rank - 1;
}

function checkSide(layout: Cursor, size: number): number {
  if (size < 1 || size > 2 ** 32) throw layout.damaged('chunks with at least 1 element', `a side of ${size}`);
  return size;
}

/** The value of elements that were never written: zeros unless the file says otherwise. */
function readFill(header: ObjectHeader, subject: string, itemSize: number): Uint8Array {
  const zeros = new Uint8Array(itemSize);
  const message = header.first(MessageType.FillValue, subject);
  if (!message) return zeros;
  const version = message.u8();
  if (version === 3) {
    if (!(message.u8() & 0x20)) return zeros;
  } else {
    message.skip(2);
    if (message.u8() === 0) return zeros;
  }
  const size = message.u32();
  // Copied, so that the cached block can be freed.
  return size === itemSize ? message.take(size).slice() : zeros;
}

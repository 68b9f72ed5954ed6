/** Datasets: the description is read from the object header, the bytes on request. */
import {type ByteSource} from '../../base/byte_source';
import {readAttribute} from './attributes';
import {type BlockReader} from './block_reader';
import {type Cursor} from './cursor';
import {arrayBytes, type Hdf5Dtype, readDataspace, readDatatype} from './datatype';
import {damagedFile, unsupportedFeature} from './errors';
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
  /**
   * Fills `target` with the dataset's little-endian bytes from byte `start` on.
   *
   * @throws if the range extends beyond the dataset.
   */
  readInto(start: number, target: Uint8Array): Promise<void>;
}

/** A dataset's bytes: an address in the file or, for compact layout, a copy from the object header. */
type Storage = {readonly address: number} | {readonly bytes: Uint8Array};

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

  async readInto(start: number, target: Uint8Array): Promise<void> {
    if (!Number.isInteger(start) || start < 0 || start + target.length > this.byteLength) {
      throw new Error(
        `The dataset "${this.path}" of "${this.source.name}" has ${this.byteLength} bytes: expected a range inside ` +
          `them. Received: ${target.length} bytes from ${start}. Read no further than the dataset's byteLength.`,
      );
    }
    if (target.length === 0) return;
    if ('bytes' in this.storage) target.set(this.storage.bytes.subarray(start, start + target.length));
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
  if (header.has(MessageType.Filters)) throw refuse('an array without filters', 'a compressed or filtered array');
  if (header.has(MessageType.ExternalFiles)) throw refuse('its data in this file', 'data in external files');
  const storage = readLayout(message(MessageType.Layout, 'layout'), byteLength, subject, refuse);
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

/** Where the bytes are, or undefined if no storage was allocated. */
function readLayout(
  layout: Cursor,
  byteLength: number,
  subject: string,
  refuse: (expected: string, received: string) => Error,
): Storage | undefined {
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
  if (kind === 2) throw refuse('a contiguous array', 'chunked storage (chunked or compressed when it was saved)');
  if (kind === 3) throw refuse('a contiguous array', 'a virtual dataset, whose data are in other files');
  throw layout.damaged('a layout of class 0 to 3', `class ${kind}`);
}

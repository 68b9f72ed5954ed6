/** Zip archives (PKWARE's APPNOTE.TXT), read by byte ranges: the directory first, then files as they are needed. */
import {type ByteSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {FilePart} from '../../base/file_part';
import {isSafePath} from '../../base/safe_path';
import {InflatedFile} from './inflated_file';

/** A file in an archive, as the directory describes it. */
interface Entry {
  readonly name: string;
  readonly method: number;
  readonly crc: number;
  /** Bytes in the archive. */
  readonly packed: number;
  /** Bytes of the file. */
  readonly size: number;
  /** Where its header is. */
  readonly header: number;
}

const END = 0x06054b50;
const END_64 = 0x06064b50;
const LOCATOR_64 = 0x07064b50;
const DIRECTORY_ENTRY = 0x02014b50;
const FILE_HEADER = 0x04034b50;

/** Bytes of the record at the end, without the comment after it. */
const END_SIZE = 22;
const LONGEST_COMMENT = 0xffff;

/** Maximum size of a directory in bytes. A model's is a few kilobytes. */
const DIRECTORY_LIMIT = 16 * 2 ** 20;

const STORED = 0;
const DEFLATED = 8;

/** Deflate packs at most 258 bytes into two bits: no file can be larger than this many times what it was packed into. */
const LARGEST_RATIO = 1032;

const utf8 = new TextDecoder('utf-8', {fatal: true});

/** An archive whose directory was read. */
export class ZipFile {
  private constructor(
    private readonly source: ByteSource,
    private readonly entries: ReadonlyMap<string, Entry>,
  ) {}

  /**
   * Reads the directory of an archive. The source stays open, and belongs to the caller.
   *
   * @throws ValueError if it is not an archive, is damaged, is in several parts, or has names that lead out of a
   * folder.
   */
  static async open(source: ByteSource): Promise<ZipFile> {
    const {start, size, count} = await findDirectory(source);
    const bytes = new Uint8Array(size);
    await source.readInto(start, bytes);
    const entries = new Map<string, Entry>();
    for (const entry of directoryEntries(source, bytes, count)) {
      // Folders have separate entries without contents.
      if (entry.name.endsWith('/')) continue;
      if (!isSafePath(entry.name)) {
        throw damaged(source, 'names of files inside the archive', JSON.stringify(entry.name));
      }
      if (entries.has(entry.name)) throw damaged(source, 'each file once', `"${entry.name}" again`);
      entries.set(entry.name, entry);
    }
    return new ZipFile(source, entries);
  }

  /** Paths of all files. */
  get names(): string[] {
    return [...this.entries.keys()];
  }

  has(name: string): boolean {
    return this.entries.has(name);
  }

  /**
   * Opens a file. One that is stored is read from its place in the archive; one that is deflated is inflated as it is
   * read.
   *
   * @throws ValueError if there is no such file, it is encrypted or packed in another way, or its position is wrong.
   */
  async open(name: string): Promise<ByteSource> {
    const {source} = this;
    const entry = this.entries.get(name);
    if (!entry) throw new ValueError(`Expected "${name}" in "${source.name}". Received: an archive without it.`);
    const {header, packed, size, method, crc} = entry;
    const path = `${source.name}/${name}`;
    const head = new DataView(new ArrayBuffer(30));
    if (header + head.byteLength > source.size) throw damaged(source, `"${name}" inside the file`, `byte ${header}`);
    await source.readInto(header, new Uint8Array(head.buffer));
    if (head.getUint32(0, true) !== FILE_HEADER) {
      throw damaged(source, `the header of "${name}" at byte ${header}`, 'other bytes');
    }
    if (head.getUint16(6, true) & 1) {
      throw new ValueError(`Expected "${path}" to be readable. Received: an encrypted file. Unpack the archive first.`);
    }
    if (method !== STORED && method !== DEFLATED) {
      throw new ValueError(
        `Expected "${path}" to be stored or deflated. Received: compression method ${method}. Unpack the archive, and ` +
          'pack it again without compression.',
      );
    }
    const start = header + head.byteLength + head.getUint16(26, true) + head.getUint16(28, true);
    if (start + packed > source.size) {
      throw damaged(source, `${packed} bytes of "${name}" from byte ${start} on`, `a file of ${source.size} bytes`);
    }
    const possible = method === STORED ? size === packed : size <= packed * LARGEST_RATIO;
    if (!possible) throw damaged(source, `"${name}" to fit what is stored of it`, `${size} bytes in ${packed}`);
    const stored = new FilePart(path, source, start, packed);
    return method === STORED ? stored : new InflatedFile(stored, size, crc);
  }
}

function damaged({name}: ByteSource, expected: string, received: string): ValueError {
  return new ValueError(
    `"${name}" is a damaged zip archive: expected ${expected}. Received: ${received}. Fetch the file again.`,
  );
}

/** Where the directory is, and how many entries it has. */
async function findDirectory(source: ByteSource): Promise<{start: number; size: number; count: number}> {
  const tail = new Uint8Array(Math.min(source.size, END_SIZE + LONGEST_COMMENT));
  await source.readInto(source.size - tail.length, tail);
  const view = new DataView(tail.buffer);
  let at = tail.length - END_SIZE;
  // The comment ends the file, which distinguishes the record from bytes that look like it.
  while (
    at >= 0 &&
    !(view.getUint32(at, true) === END && at + END_SIZE + view.getUint16(at + 20, true) === tail.length)
  )
    at--;
  if (at < 0) {
    throw new ValueError(
      `Expected a zip archive, as Keras saves models, in "${source.name}". Received: a file without the directory of one ` +
        'at its end. Fetch the file again.',
    );
  }
  const end = source.size - tail.length + at;
  let found = {
    start: view.getUint32(at + 16, true),
    size: view.getUint32(at + 12, true),
    count: view.getUint16(at + 10, true),
    ends: end,
  };
  const parts = [view.getUint16(at + 4, true), view.getUint16(at + 6, true)];
  if (at >= 20 && view.getUint32(at - 20, true) === LOCATOR_64) {
    found = await readEnd64(source, end - 20, new DataView(tail.buffer, at - 20, 20));
  } else if (parts.some(part => part !== 0)) {
    throw damaged(source, 'an archive in one file', 'one of several parts');
  }
  const {start, size, count, ends} = found;
  if (start + size > ends) throw damaged(source, 'its directory inside the file', `bytes ${start} to ${start + size}`);
  if (size > DIRECTORY_LIMIT) throw damaged(source, `a directory of at most ${DIRECTORY_LIMIT} bytes`, `${size}`);
  return {start, size, count};
}

/** The record of an archive whose numbers do not fit into 32 bits. */
async function readEnd64(source: ByteSource, limit: number, locator: DataView) {
  const at = wide(source, locator, 8);
  const record = new DataView(new ArrayBuffer(56));
  if (at + record.byteLength > limit) throw damaged(source, 'its last record inside the file', `byte ${at}`);
  await source.readInto(at, new Uint8Array(record.buffer));
  if (record.getUint32(0, true) !== END_64) throw damaged(source, `its last record at byte ${at}`, 'other bytes');
  return {start: wide(source, record, 48), size: wide(source, record, 40), count: wide(source, record, 32), ends: at};
}

/** A number of 64 bits. One above 2^53 cannot be right. */
function wide(source: ByteSource, view: DataView, at: number): number {
  const value = Number(view.getBigUint64(at, true));
  if (!Number.isSafeInteger(value)) throw damaged(source, 'sizes and places below 2^53', `${value}`);
  return value;
}

function* directoryEntries(source: ByteSource, bytes: Uint8Array, count: number): Generator<Entry> {
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== DIRECTORY_ENTRY) {
      throw damaged(source, `${count} files in its directory`, `${i}`);
    }
    const [nameSize, extraSize, commentSize] = [28, 30, 32].map(place => view.getUint16(at + place, true)) as [
      number,
      number,
      number,
    ];
    const end = at + 46 + nameSize + extraSize + commentSize;
    if (end > bytes.length) throw damaged(source, `${count} files in its directory`, `${i} and a part of one`);
    const name = nameOf(source, bytes.subarray(at + 46, at + 46 + nameSize));
    const extra = new DataView(bytes.buffer, at + 46 + nameSize, extraSize);
    // In the order in which a 64-bit extra field has the numbers that do not fit here.
    const [size, packed, header] = widened(source, name, extra, [
      view.getUint32(at + 24, true),
      view.getUint32(at + 20, true),
      view.getUint32(at + 42, true),
    ]);
    yield {name, method: view.getUint16(at + 10, true), crc: view.getUint32(at + 16, true), size, packed, header};
    at = end;
  }
  if (at !== bytes.length) throw damaged(source, `${count} files in its directory`, 'more bytes after them');
}

function nameOf(source: ByteSource, bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw damaged(source, 'names in UTF-8', 'other bytes');
  }
}

type Sizes = [size: number, packed: number, header: number];

/** Replaces the numbers that did not fit into 32 bits with those of an extra field. */
function widened(source: ByteSource, name: string, extra: DataView, values: Sizes): Sizes {
  if (!values.includes(0xffffffff)) return values;
  for (let at = 0; at + 4 <= extra.byteLength; at += 4 + extra.getUint16(at + 2, true)) {
    if (extra.getUint16(at, true) !== 1) continue;
    const end = Math.min(extra.byteLength, at + 4 + extra.getUint16(at + 2, true));
    let next = at + 4;
    return values.map(value => {
      if (value !== 0xffffffff) return value;
      if (next + 8 > end) throw damaged(source, `the size and the place of "${name}"`, 'a part of them');
      next += 8;
      return wide(source, extra, next - 8);
    }) as Sizes;
  }
  return values;
}

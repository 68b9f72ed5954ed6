/** The superblock, at the start of a file. */
import {type ByteSource} from '../../base/byte_source';
import {FilePart} from '../../base/file_part';
import {Cursor} from './cursor';
import {damagedFile, showBytes, unsupportedFeature} from './errors';

const SIGNATURE = [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a];

/** Size in bytes of the longest version of the superblock. */
const SUPERBLOCK_LIMIT = 100;

/** Contents of the superblock. */
export interface Superblock {
  /** The file without its user block. All addresses count from here. */
  readonly source: ByteSource;
  /** Address of the root group's object header. */
  readonly root: number;
  /** End of the file's contents. The file is at least that long. */
  readonly end: number;
}

/** The bytes of a file after its user block, where HDF5 counts addresses from. */
class AfterUserBlock extends FilePart {
  constructor(
    file: ByteSource,
    readonly userBlock: number,
  ) {
    super(file.name, file, userBlock, file.size - userBlock);
  }
  override close(): Promise<void> {
    return this.file.close();
  }
}

/** Largest user block that is searched for. In a file that is not HDF5, each size costs a read. */
const USER_BLOCK_LIMIT = 2 ** 20;

const isSuperblock = (bytes: Uint8Array) => SIGNATURE.every((byte, i) => bytes[i] === byte);

/**
 * The part of a file from its superblock on. A user block of any content may precede it, of 512 bytes, 1024, and so on,
 * doubling each time. Undefined if there is no superblock.
 */
async function afterUserBlock(source: ByteSource): Promise<ByteSource | undefined> {
  const start = new Uint8Array(SIGNATURE.length);
  for (let at = 512; at <= USER_BLOCK_LIMIT && at + start.length <= source.size; at *= 2) {
    await source.readInto(at, start);
    if (isSuperblock(start)) return new AfterUserBlock(source, at);
  }
  return undefined;
}

/** Reads the superblock (versions 0 to 3) and checks that the file is HDF5 and complete. */
export async function readSuperblock(source: ByteSource): Promise<Superblock> {
  const start = new Uint8Array(Math.min(SUPERBLOCK_LIMIT, source.size));
  await source.readInto(0, start);
  if (!isSuperblock(start)) {
    // Files of the kinds that `guess` knows have no later superblock.
    const rest = source instanceof AfterUserBlock || guess(start) ? undefined : await afterUserBlock(source);
    if (rest) return readSuperblock(rest);
    throw new Error(
      `"${source.name}" is not an HDF5 file: expected it to start with ${showBytes(Uint8Array.from(SIGNATURE))}. ` +
        `Received: ${source.size === 0 ? 'an empty file' : showBytes(start.subarray(0, 16))}${guess(start)}. ` +
        `Pass a weights file that Keras 3 saved, such as "model.weights.h5".`,
    );
  }
  if (source.size < 9) throw truncated(source, 'a superblock');
  const cursor = new Cursor(source.name, 'the superblock at byte 0', start);
  cursor.skip(SIGNATURE.length);
  const version = cursor.u8();
  if (version > 3) {
    throw unsupportedFeature(source.name, 'superblock', 'version 0 to 3', `version ${version}`);
  }
  if (source.size < (version >= 2 ? 48 : version === 1 ? 100 : 96)) throw truncated(source, 'a superblock');
  return version >= 2 ? readNew(source, cursor, version) : readOld(source, cursor, version);
}

function readOld(source: ByteSource, cursor: Cursor, version: number): Superblock {
  cursor.skip(4);
  checkWidths(source, cursor.u8(), cursor.u8());
  // Reserved byte, ranks of the B-trees, consistency flags. Version 1 adds the rank of chunk B-trees.
  cursor.skip(1 + 4 + 4 + (version === 1 ? 4 : 0));
  const base = checkBase(source, cursor.address());
  cursor.skip(8);
  const end = checkEnd(source, cursor.address(), base);
  // Driver information, then the root's symbol table entry: name offset and header address.
  cursor.skip(8 + 8);
  return {source, root: cursor.definedAddress('the root group'), end};
}

function readNew(source: ByteSource, cursor: Cursor, version: number): Superblock {
  checkWidths(source, cursor.u8(), cursor.u8());
  const flags = cursor.u8();
  if (version === 3 && (flags & 1) !== 0) {
    throw damagedFile(source.name, 'a file that its writer has closed', 'a file still marked as open for writing');
  }
  const base = checkBase(source, cursor.address());
  cursor.skip(8);
  const end = checkEnd(source, cursor.address(), base);
  return {source, root: cursor.definedAddress('the root group'), end};
}

function checkWidths(source: ByteSource, offsets: number, lengths: number): void {
  if (offsets === 8 && lengths === 8) return;
  throw unsupportedFeature(
    source.name,
    'superblock',
    'addresses and lengths of 8 bytes',
    `addresses of ${offsets} and lengths of ${lengths} bytes`,
  );
}

/** Returns the base address: the size of the user block. */
function checkBase(source: ByteSource, base: number | undefined): number {
  const expected = source instanceof AfterUserBlock ? source.userBlock : 0;
  if (base === expected) return base;
  throw unsupportedFeature(
    source.name,
    'superblock',
    `the base address ${expected}`,
    `${base ?? 'the undefined address'}`,
  );
}

/** Returns the end relative to the base address; it is stored as an absolute one. */
function checkEnd(source: ByteSource, end: number | undefined, base: number): number {
  if (end === undefined) throw damagedFile(source.name, 'its end-of-file address', 'the undefined address');
  if (source.size + base < end) throw truncated(source, `${end} bytes`);
  return end - base;
}

function truncated(source: ByteSource, expected: string): Error {
  return new Error(
    `"${source.name}" is truncated: expected ${expected}. Received: ${source.size} bytes. Fetch the file again.`,
  );
}

/** Recognizes files passed by mistake from their first bytes. Returns a hint for the error message, or ''. */
function guess(start: Uint8Array): string {
  const text = String.fromCharCode(...start.subarray(0, 24));
  if (text.startsWith('PK')) return ' (a zip archive, as ".keras" files are: pass the path of one to `fromPreset`)';
  if (text.startsWith('version https://git-lfs')) return ' (a Git LFS pointer; fetch the file itself)';
  if (/^\s*</.test(text)) return ' (a web page rather than a file)';
  if (text.slice(8).startsWith('{"')) return ' (a safetensors file)';
  return '';
}

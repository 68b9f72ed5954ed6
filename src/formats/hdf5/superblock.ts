/** The superblock, at the start of a file. */
import {type ByteSource} from '../../base/byte_source';
import {Cursor} from './cursor';
import {damagedFile, showBytes, unsupportedFeature} from './errors';

const SIGNATURE = [0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a];

/** Size in bytes of the longest version of the superblock. */
const SUPERBLOCK_LIMIT = 100;

/** Contents of the superblock. */
export interface Superblock {
  /** Address of the root group's object header. */
  readonly root: number;
  /** End of the file's contents. The file is at least that long. */
  readonly end: number;
}

/** Reads the superblock (versions 0 to 3) and checks that the file is HDF5 and complete. */
export async function readSuperblock(source: ByteSource): Promise<Superblock> {
  const start = new Uint8Array(Math.min(SUPERBLOCK_LIMIT, source.size));
  await source.readInto(0, start);
  if (!SIGNATURE.every((byte, i) => start[i] === byte)) {
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
  checkBase(source, cursor.address());
  cursor.skip(8);
  const end = checkEnd(source, cursor.address());
  // Driver information, then the root's symbol table entry: name offset and header address.
  cursor.skip(8 + 8);
  return {root: cursor.definedAddress('the root group'), end};
}

function readNew(source: ByteSource, cursor: Cursor, version: number): Superblock {
  checkWidths(source, cursor.u8(), cursor.u8());
  const flags = cursor.u8();
  if (version === 3 && (flags & 1) !== 0) {
    throw damagedFile(source.name, 'a file that its writer has closed', 'a file still marked as open for writing');
  }
  checkBase(source, cursor.address());
  cursor.skip(8);
  const end = checkEnd(source, cursor.address());
  return {root: cursor.definedAddress('the root group'), end};
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

function checkBase(source: ByteSource, base: number | undefined): void {
  if (base === 0) return;
  throw unsupportedFeature(source.name, 'superblock', 'the base address 0', `${base ?? 'the undefined address'}`);
}

function checkEnd(source: ByteSource, end: number | undefined): number {
  if (end === undefined) throw damagedFile(source.name, 'its end-of-file address', 'the undefined address');
  if (source.size < end) throw truncated(source, `${end} bytes`);
  return end;
}

function truncated(source: ByteSource, expected: string): Error {
  return new Error(
    `"${source.name}" is truncated: expected ${expected}. Received: ${source.size} bytes. Fetch the file again.`,
  );
}

/** Recognizes files passed by mistake from their first bytes. Returns a hint for the error message, or ''. */
function guess(start: Uint8Array): string {
  const text = String.fromCharCode(...start.subarray(0, 24));
  if (text.startsWith('PK')) return ' (a zip archive, as ".keras" files are; unpack it and pass its weights file)';
  if (text.startsWith('version https://git-lfs')) return ' (a Git LFS pointer; fetch the file itself)';
  if (/^\s*</.test(text)) return ' (a web page rather than a file)';
  if (text.slice(8).startsWith('{"')) return ' (a safetensors file)';
  return '';
}

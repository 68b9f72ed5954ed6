/** Reads consecutive fields of a structure. */
import {damagedFile, showBytes} from './errors';

const utf8 = new TextDecoder('utf-8', {fatal: true});

/**
 * Reads consecutive little-endian fields of one structure of the file.
 *
 * Every read is checked against the structure's end, so that a wrong length field causes an error that names the file
 * and the structure, not a `RangeError` from a `DataView`.
 */
export class Cursor {
  /** Next byte to read, relative to the structure's start. */
  position = 0;
  private readonly view: DataView;

  /**
   * @param file name of the file in error messages.
   * @param what name of the structure in error messages ("the object header at byte 96").
   */
  constructor(
    readonly file: string,
    readonly what: string,
    readonly bytes: Uint8Array,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get remaining(): number {
    return this.bytes.length - this.position;
  }

  u8(): number {
    return this.view.getUint8(this.advance(1));
  }
  u16(): number {
    return this.view.getUint16(this.advance(2), true);
  }
  u32(): number {
    return this.view.getUint32(this.advance(4), true);
  }

  /** An unsigned integer of `size` bytes (1, 2, 4 or 8), for fields of variable width. */
  unsigned(size: number): number {
    if (size === 1) return this.u8();
    if (size === 2) return this.u16();
    if (size === 4) return this.u32();
    return this.u64();
  }

  /** An unsigned integer of any number of bytes. A value above 2^53 cannot be right and throws. */
  uint(size: number): number {
    let value = 0;
    for (const [i, byte] of this.take(size).entries()) value += byte * 2 ** (8 * i);
    if (!Number.isSafeInteger(value)) throw this.damaged('a number below 2^53', `about ${value}`);
    return value;
  }

  /** A length or count of 8 bytes. A value above 2^53 cannot be right and throws. */
  u64(): number {
    const low = this.u32();
    const value = this.u32() * 2 ** 32 + low;
    if (!Number.isSafeInteger(value)) throw this.damaged('a length or address below 2^53', `about ${value}`);
    return value;
  }

  /** An address of 8 bytes; all ones is HDF5's "undefined address". */
  address(): number | undefined {
    const at = this.position;
    if (this.remaining >= 8) {
      if (this.view.getUint32(at, true) === 0xffffffff && this.view.getUint32(at + 4, true) === 0xffffffff) {
        this.position += 8;
        return undefined;
      }
    }
    return this.u64();
  }

  /** An address that must be defined. `target` names what it points to. */
  definedAddress(target: string): number {
    const address = this.address();
    if (address === undefined) throw this.damaged(`the address of ${target}`, 'the undefined address');
    return address;
  }

  skip(count: number): void {
    this.advance(count);
  }

  /** The next `count` bytes, not copied. */
  take(count: number): Uint8Array {
    const start = this.advance(count);
    return this.bytes.subarray(start, start + count);
  }

  /** A cursor over the next `count` bytes. */
  part(count: number, what: string): Cursor {
    return new Cursor(this.file, what, this.take(count));
  }

  /** UTF-8 text of exactly `count` bytes, up to a NUL if there is one. */
  text(count: number): string {
    const bytes = this.take(count);
    const end = bytes.indexOf(0);
    try {
      return utf8.decode(end < 0 ? bytes : bytes.subarray(0, end));
    } catch {
      throw this.damaged('UTF-8 text', showBytes(bytes.subarray(0, 16)));
    }
  }

  /** Checks the letters at the start of a structure. */
  signature(letters: string): void {
    const found = this.take(letters.length);
    for (let i = 0; i < letters.length; i++) {
      if (found[i] !== letters.charCodeAt(i)) throw this.damaged(`the signature "${letters}"`, showBytes(found));
    }
  }

  /** An error about this structure. */
  damaged(expected: string, received: string): Error {
    return damagedFile(this.file, `${expected} in ${this.what}`, received);
  }

  private advance(count: number): number {
    if (count > this.remaining) {
      throw this.damaged(`${count} more bytes at position ${this.position}`, `${this.remaining} bytes left`);
    }
    const start = this.position;
    this.position += count;
    return start;
  }
}

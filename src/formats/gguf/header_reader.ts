/** Reads the header of a GGUF file from beginning to end, in few large pieces. */
import {type ByteSource} from '../../base/byte_source';
import {type ValueError} from '../../base/errors';
import {damaged} from './errors';

/** Bytes of the first read. The header of a file without a vocabulary fits. */
const FIRST = 2 ** 20;
/** Bytes of all further reads. The vocabulary of Gemma 3 takes 6 MB. */
const NEXT = 2 ** 23;
/** Maximum size of a header. The largest vocabularies take a tenth of it. */
const LIMIT = 2 ** 28;

const EMPTY = new Uint8Array(0);

export class HeaderReader {
  /** What was read so far: the beginning of the file. */
  private head = EMPTY;
  private view = new DataView(EMPTY.buffer);
  /** Bytes that were consumed. */
  position = 0;

  constructor(private readonly source: ByteSource) {}

  damaged(expected: string, received: string): ValueError {
    return damaged(this.source.name, expected, received);
  }

  /**
   * Checks that the file is large enough for `count` more bytes, before memory for them is allocated.
   *
   * @throws ValueError if it is not.
   */
  expect(count: number, what: string): void {
    const end = this.position + count;
    if (end > this.source.size) throw this.damaged(`${what} within ${this.source.size} bytes`, `an end at byte ${end}`);
    if (end > LIMIT) throw this.damaged(`a header of at most ${LIMIT} bytes`, `${what} up to byte ${end}`);
  }

  /** Ensures that `count` more bytes are in memory. */
  private async fill(count: number, what: string): Promise<void> {
    const end = this.position + count;
    if (end <= this.head.length) return;
    this.expect(count, what);
    const step = this.head.length === 0 ? FIRST : NEXT;
    const size = Math.min(this.source.size, Math.max(end, this.head.length + step));
    const head = new Uint8Array(size);
    head.set(this.head);
    await this.source.readInto(this.head.length, head.subarray(this.head.length));
    this.head = head;
    this.view = new DataView(head.buffer);
  }

  /** The next bytes, not copied. */
  async bytes(count: number, what: string): Promise<Uint8Array> {
    await this.fill(count, what);
    this.position += count;
    return this.head.subarray(this.position - count, this.position);
  }

  /** The bytes that were consumed from `start` on, not copied. */
  since(start: number): Uint8Array {
    return this.head.subarray(start, this.position);
  }

  async uint32(what: string): Promise<number> {
    await this.fill(4, what);
    this.position += 4;
    return this.view.getUint32(this.position - 4, true);
  }

  /** A number of 64 bits that is a size, a count or a position. */
  async count(what: string): Promise<number> {
    await this.fill(8, what);
    return this.countNow(what);
  }

  private countNow(what: string): number {
    this.position += 8;
    const value = this.view.getBigUint64(this.position - 8, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.damaged(`a size below 2^53 for ${what}`, String(value));
    return Number(value);
  }

  /** The length of a string, checked against the size of the file. */
  async stringLength(what: string): Promise<number> {
    await this.fill(8, what);
    return this.stringLengthNow(what)!;
  }

  /** The same, if it is in memory; undefined otherwise. */
  stringLengthNow(what: string): number | undefined {
    if (this.position + 8 > this.head.length) return undefined;
    const length = this.countNow(what);
    this.expect(length, what);
    return length;
  }

  /** Skips bytes if they are in memory. Returns false, and skips none, otherwise. */
  skipNow(count: number): boolean {
    if (this.position + count > this.head.length) return false;
    this.position += count;
    return true;
  }

  /** The bytes of a string, not copied. */
  async string(what: string): Promise<Uint8Array> {
    return this.bytes(await this.stringLength(what), what);
  }
}

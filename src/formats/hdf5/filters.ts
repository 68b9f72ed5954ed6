/** Filters that h5py applies to chunks, undone: gzip, lzf, shuffle, checksums. */
import {type Cursor} from './cursor';

const DEFLATE = 1;
const SHUFFLE = 2;
const FLETCHER32 = 3;
const LZF = 32_000;

const NAMES: Record<number, string> = {4: 'szip', 5: 'n-bit', 6: 'scale-offset', 32_001: 'blosc', 32_015: 'zstd'};

/** A step that was applied when the chunk was written. */
export interface Filter {
  readonly id: number;
  /** Bytes of an element, for shuffle. */
  readonly elementSize: number;
}

/** Reads a message of filters, in the order in which they were applied. */
export function readFilters(message: Cursor): Filter[] {
  const version = message.u8();
  if (version !== 1 && version !== 2) throw message.damaged('filters of version 1 or 2', `version ${version}`);
  const count = message.u8();
  if (count > 32) throw message.damaged('at most 32 filters', `${count}`);
  if (version === 1) message.skip(6);
  return Array.from({length: count}, () => {
    const id = message.u16();
    const nameLength = version === 1 || id >= 256 ? message.u16() : 0;
    message.skip(2);
    const values = message.u16();
    message.skip(version === 1 ? Math.ceil(nameLength / 8) * 8 : nameLength);
    const data = Array.from({length: values}, () => message.u32());
    if (version === 1 && values % 2 === 1) message.skip(4);
    return {id, elementSize: data[0] ?? 1};
  });
}

/** The first filter that cannot be undone, by name. */
export function unknownFilter(filters: readonly Filter[]): string | undefined {
  const found = filters.find(({id}) => ![DEFLATE, SHUFFLE, FLETCHER32, LZF].includes(id));
  return found && (NAMES[found.id] ?? `number ${found.id}`);
}

/**
 * Undoes filters.
 *
 * @param mask has a bit for each filter that was not applied to this chunk.
 * @param size bytes of the chunk without filters.
 * @param damaged creates the error for a chunk that cannot be right.
 */
export async function undoFilters(
  stored: Uint8Array,
  filters: readonly Filter[],
  mask: number,
  size: number,
  damaged: (expected: string, received: string) => Error,
): Promise<Uint8Array> {
  let bytes = stored;
  for (let i = filters.length - 1; i >= 0; i--) {
    if ((mask >>> i) & 1) continue;
    const {id, elementSize} = filters[i]!;
    if (id === DEFLATE) bytes = await inflate(bytes, size + 4, damaged);
    else if (id === LZF) bytes = unpackLzf(bytes, size + 4, damaged);
    else if (id === SHUFFLE) bytes = unshuffle(bytes, elementSize);
    else bytes = withoutChecksum(bytes, damaged);
  }
  if (bytes.length !== size) throw damaged(`${size} bytes`, `${bytes.length}`);
  return bytes;
}

type Damaged = (expected: string, received: string) => Error;

/** @param limit bytes at most: a chunk, and a checksum that a filter before this one may have added. */
async function inflate(bytes: Uint8Array, limit: number, damaged: Damaged): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream('deflate'));
  const reader = stream.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  const out = new Uint8Array(limit);
  let filled = 0;
  for (;;) {
    const {done, value} = await reader.read().catch((error: unknown) => {
      throw damaged('gzip data', (error as Error).message);
    });
    if (done) return out.subarray(0, filled);
    if (filled + value.length > limit) {
      await reader.cancel().catch(() => undefined);
      throw damaged(`at most ${limit} bytes`, 'more');
    }
    out.set(value, filled);
    filled += value.length;
  }
}

/** The format of liblzf: runs of bytes, and references to earlier bytes. */
function unpackLzf(bytes: Uint8Array, limit: number, damaged: Damaged): Uint8Array {
  const out = new Uint8Array(limit);
  let filled = 0;
  const end = () => damaged('complete lzf data', 'data that end early');
  for (let at = 0; at < bytes.length;) {
    const control = bytes[at++]!;
    if (control < 32) {
      const length = control + 1;
      if (at + length > bytes.length) throw end();
      if (filled + length > limit) throw damaged(`at most ${limit} bytes`, 'more');
      out.set(bytes.subarray(at, at + length), filled);
      at += length;
      filled += length;
      continue;
    }
    let length = control >> 5;
    if (length === 7) length += bytes[at++] ?? NaN;
    const from = filled - ((control & 31) << 8) - (bytes[at++] ?? NaN) - 1;
    length += 2;
    if (Number.isNaN(from) || Number.isNaN(length)) throw end();
    if (from < 0) throw damaged('lzf references to earlier bytes', `one to byte ${from}`);
    if (filled + length > limit) throw damaged(`at most ${limit} bytes`, 'more');
    // One by one: a reference may overlap the bytes that it writes.
    for (let i = 0; i < length; i++) out[filled + i] = out[from + i]!;
    filled += length;
  }
  return out.subarray(0, filled);
}

/** Puts the bytes of each element together again. Bytes that do not fill an element stay at the end. */
function unshuffle(bytes: Uint8Array, elementSize: number): Uint8Array {
  const count = elementSize > 1 ? Math.floor(bytes.length / elementSize) : 0;
  if (count <= 1) return bytes;
  const out = new Uint8Array(bytes.length);
  for (let byte = 0, from = 0; byte < elementSize; byte++) {
    for (let to = byte; to < count * elementSize; to += elementSize) out[to] = bytes[from++]!;
  }
  out.set(bytes.subarray(count * elementSize), count * elementSize);
  return out;
}

function withoutChecksum(bytes: Uint8Array, damaged: Damaged): Uint8Array {
  if (bytes.length < 4) throw damaged('a checksum', `${bytes.length} bytes`);
  const data = bytes.subarray(0, bytes.length - 4);
  const stored = new DataView(bytes.buffer, bytes.byteOffset).getUint32(data.length, true);
  const computed = fletcher32(data);
  if (stored !== computed) throw damaged(`the checksum ${stored}`, `${computed}`);
  return data;
}

/** Fletcher's checksum over numbers of 16 bits, high byte first. */
function fletcher32(bytes: Uint8Array): number {
  let [low, high] = [0, 0];
  const even = bytes.length - (bytes.length % 2);
  for (let at = 0; at < even;) {
    // A number small enough that the sums stay exact.
    const stop = Math.min(even, at + 720);
    for (; at < stop; at += 2) {
      low += bytes[at]! * 256 + bytes[at + 1]!;
      high += low;
    }
    low = (low & 0xffff) + Math.floor(low / 65536);
    high = (high & 0xffff) + Math.floor(high / 65536);
  }
  if (even < bytes.length) {
    low += bytes[even]! * 256;
    high += low;
    low = (low & 0xffff) + Math.floor(low / 65536);
    high = (high & 0xffff) + Math.floor(high / 65536);
  }
  low = (low & 0xffff) + (low >>> 16);
  high = (high & 0xffff) + (high >>> 16);
  return high * 65536 + low;
}

/** Metadata of a GGUF file: values by key. */
import {type HeaderReader} from './header_reader';

/** Types of values, as numbered in files. */
export const ValueType = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const;

/**
 * Strings of an array, kept as UTF-8 bytes until they are requested: a vocabulary has 262,144 of them, and most
 * programs read none.
 */
export class GgufStrings {
  constructor(
    private readonly bytes: Uint8Array,
    private readonly starts: Float64Array,
    private readonly ends: Float64Array,
  ) {}
  get length(): number {
    return this.starts.length;
  }
  /** The bytes of a string, not copied. */
  bytesOf(index: number): Uint8Array {
    return this.bytes.subarray(this.starts[index]!, this.ends[index]!);
  }
  /** The first strings. */
  first(count: number): GgufStrings {
    return new GgufStrings(this.bytes, this.starts.subarray(0, count), this.ends.subarray(0, count));
  }
  at(index: number): string {
    return utf8.decode(this.bytesOf(index));
  }
}

/** An array of numbers (of 64 bits: bigint), strings, flags or arrays. */
export type GgufArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array
  | GgufStrings
  | readonly boolean[]
  | readonly GgufArray[];

/** A value. Integers of 64 bits are numbers where these are exact. */
export type GgufValue = number | bigint | boolean | string | GgufArray;

const utf8 = new TextDecoder('utf-8', {ignoreBOM: true});

/** Maximum depth of arrays in arrays. */
const DEPTH = 4;

/** Numbers of fixed size: bytes, and the class of an array of them. */
const NUMBERS = {
  [ValueType.uint8]: {size: 1, array: Uint8Array, read: (view: DataView, at: number) => view.getUint8(at)},
  [ValueType.int8]: {size: 1, array: Int8Array, read: (view: DataView, at: number) => view.getInt8(at)},
  [ValueType.uint16]: {size: 2, array: Uint16Array, read: (view: DataView, at: number) => view.getUint16(at, true)},
  [ValueType.int16]: {size: 2, array: Int16Array, read: (view: DataView, at: number) => view.getInt16(at, true)},
  [ValueType.uint32]: {size: 4, array: Uint32Array, read: (view: DataView, at: number) => view.getUint32(at, true)},
  [ValueType.int32]: {size: 4, array: Int32Array, read: (view: DataView, at: number) => view.getInt32(at, true)},
  [ValueType.float32]: {size: 4, array: Float32Array, read: (view: DataView, at: number) => view.getFloat32(at, true)},
  [ValueType.uint64]: {
    size: 8,
    array: BigUint64Array,
    read: (view: DataView, at: number) => view.getBigUint64(at, true),
  },
  [ValueType.int64]: {size: 8, array: BigInt64Array, read: (view: DataView, at: number) => view.getBigInt64(at, true)},
  [ValueType.float64]: {size: 8, array: Float64Array, read: (view: DataView, at: number) => view.getFloat64(at, true)},
} as const;

const numberKind = (type: number) => (Object.hasOwn(NUMBERS, type) ? NUMBERS[type as keyof typeof NUMBERS] : undefined);

/** A bigint as a number where that is exact. */
export const exact = (value: bigint): number | bigint => {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
};

/**
 * Reads a value.
 *
 * @param key for errors.
 */
export async function readValue(reader: HeaderReader, type: number, key: string): Promise<GgufValue> {
  if (type === ValueType.string) return utf8.decode(await reader.string(`the text of "${key}"`));
  if (type === ValueType.array) return readArray(reader, key, 1);
  if (type === ValueType.bool) {
    const byte = (await reader.bytes(1, `the value of "${key}"`))[0]!;
    if (byte > 1) throw reader.damaged(`"${key}" to be true or false, 1 or 0`, String(byte));
    return byte === 1;
  }
  const kind = numberKind(type);
  if (!kind) throw reader.damaged(`"${key}" to have a type from 0 to 12`, `type ${type}`);
  const {buffer, byteOffset, byteLength} = await reader.bytes(kind.size, `the value of "${key}"`);
  const value = kind.read(new DataView(buffer, byteOffset, byteLength), 0);
  return typeof value === 'bigint' ? exact(value) : value;
}

async function readArray(reader: HeaderReader, key: string, depth: number): Promise<GgufArray> {
  const what = `the array "${key}"`;
  const type = await reader.uint32(what);
  const count = await reader.count(what);
  if (type === ValueType.string) return readStrings(reader, count, key);
  if (type === ValueType.array) {
    if (depth >= DEPTH) throw reader.damaged(`arrays in arrays to a depth of ${DEPTH} in "${key}"`, 'deeper ones');
    // The type and the number of values of each.
    reader.expect(count * 12, what);
    const arrays: GgufArray[] = [];
    for (let i = 0; i < count; i++) arrays.push(await readArray(reader, key, depth + 1));
    return arrays;
  }
  if (type === ValueType.bool) {
    const flags = await reader.bytes(count, what);
    const odd = flags.find(flag => flag > 1);
    if (odd !== undefined) throw reader.damaged(`"${key}" to hold true and false, 1 and 0`, String(odd));
    return Array.from(flags, flag => flag === 1);
  }
  const kind = numberKind(type);
  if (!kind) throw reader.damaged(`"${key}" to hold values of a type from 0 to 12`, `type ${type}`);
  // Copied, because typed arrays need an aligned start.
  const copy = (await reader.bytes(count * kind.size, what)).slice();
  return new kind.array(copy.buffer as ArrayBuffer);
}

async function readStrings(reader: HeaderReader, count: number, key: string): Promise<GgufStrings> {
  const what = `the texts of "${key}"`;
  reader.expect(count * 8, what);
  const starts = new Float64Array(count);
  const ends = new Float64Array(count);
  const first = reader.position;
  for (let i = 0; i < count; i++) {
    // Awaited only at the end of what was read: a vocabulary has hundreds of thousands.
    const length = reader.stringLengthNow(what) ?? (await reader.stringLength(what));
    starts[i] = reader.position - first;
    ends[i] = starts[i]! + length;
    if (!reader.skipNow(length)) await reader.bytes(length, what);
  }
  return new GgufStrings(reader.since(first).slice(), starts, ends);
}

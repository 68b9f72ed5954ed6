/** Datatype and dataspace messages: element types and shapes. */
import {type Cursor} from './cursor';

/** Element types of datasets, with the names that Keras and NumPy use. */
export type Hdf5Dtype =
  | 'float16'
  | 'bfloat16'
  | 'float32'
  | 'float64'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'uint8'
  | 'uint16'
  | 'uint32'
  | 'uint64';

/** A datatype message, as far as this reader supports it. */
export type Datatype =
  | {readonly kind: 'number'; readonly size: number; readonly dtype: Hdf5Dtype}
  /** Uninterpreted bytes. Keras stores bfloat16 this way, marked by an attribute. */
  | {readonly kind: 'opaque'; readonly size: number}
  | {readonly kind: 'string'; readonly size: number; readonly spacePadded: boolean}
  /** A reference of 16 bytes to text in a global heap. */
  | {readonly kind: 'variable string'; readonly size: number}
  | {readonly kind: 'unsupported'; readonly size: number; readonly description: string};

const CLASS_NAMES = [
  'integer',
  'floating-point',
  'time',
  'string',
  'bit field',
  'opaque',
  'compound',
  'reference',
  'enumeration (booleans are stored as one)',
  'variable-length',
  'array',
  'complex',
];

/** Reads a datatype message. */
export function readDatatype(message: Cursor): Datatype {
  const head = message.u8();
  const version = head >> 4;
  if (version < 1 || version > 5) throw message.damaged('a datatype of version 1 to 5', `version ${version}`);
  const flags = message.u8() | (message.u8() << 8) | (message.u8() << 16);
  const size = message.u32();
  if (size === 0) throw message.damaged('elements of at least 1 byte', '0 bytes');
  const name = CLASS_NAMES[head & 15];
  const unsupported = (description: string): Datatype => ({kind: 'unsupported', size, description});
  switch (head & 15) {
    case 0: {
      const [offset, precision] = [message.u16(), message.u16()];
      if (flags & 1) return unsupported(`big-endian integers of ${size} bytes`);
      const dtype = `${flags & 8 ? 'int' : 'uint'}${size * 8}`;
      if (!isIntegerDtype(dtype) || offset !== 0 || precision !== size * 8) {
        return unsupported(`integers of ${precision} bits from bit ${offset} in ${size} bytes`);
      }
      return {kind: 'number', size, dtype};
    }
    case 1: {
      if (flags & 0x41) return unsupported(`big-endian floating-point numbers of ${size} bytes`);
      const dtype = readFloat(message, flags, size);
      if (dtype === undefined) return unsupported(`floating-point numbers of ${size} bytes in an uncommon format`);
      return {kind: 'number', size, dtype};
    }
    case 3:
      return {kind: 'string', size, spacePadded: (flags & 15) === 2};
    case 5:
      return {kind: 'opaque', size};
    case 9:
      if ((flags & 15) === 1 && size === 16) return {kind: 'variable string', size};
      return unsupported('variable-length sequences');
    default:
      return unsupported(`elements of the ${name ?? `unknown class ${head & 15}`} type`);
  }
}

function isIntegerDtype(dtype: string): dtype is Hdf5Dtype {
  return /^u?int(8|16|32|64)$/.test(dtype);
}

/** The formats: [name, bytes, exponent bits, mantissa bits, exponent bias]. Since HDF5 2.0, bfloat16 is one of them. */
const FLOATS: readonly [Hdf5Dtype, number, number, number, number][] = [
  ['float16', 2, 5, 10, 15],
  ['bfloat16', 2, 8, 7, 127],
  ['float32', 4, 8, 23, 127],
  ['float64', 8, 11, 52, 1023],
];

function readFloat(message: Cursor, flags: number, size: number): Hdf5Dtype | undefined {
  const [offset, precision] = [message.u16(), message.u16()];
  const [exponentAt, exponentBits, mantissaAt, mantissaBits] = [message.u8(), message.u8(), message.u8(), message.u8()];
  const bias = message.u32();
  const impliedOne = ((flags >> 4) & 3) === 2;
  const signAt = (flags >> 8) & 255;
  if (!impliedOne || offset !== 0 || mantissaAt !== 0 || exponentAt !== mantissaBits) return undefined;
  if (precision !== size * 8 || signAt !== size * 8 - 1) return undefined;
  return FLOATS.find(
    ([, bytes, exponent, mantissa, offsetOfExponent]) =>
      bytes === size && exponent === exponentBits && mantissa === mantissaBits && offsetOfExponent === bias,
  )?.[0];
}

/** The shape in a dataspace message, or undefined for a null dataspace, which has neither elements nor a shape. */
export function readDataspace(message: Cursor): number[] | undefined {
  const version = message.u8();
  if (version !== 1 && version !== 2) throw message.damaged('a dataspace of version 1 or 2', `version ${version}`);
  const rank = message.u8();
  if (rank > 32) throw message.damaged('at most 32 dimensions', `${rank}`);
  message.skip(1);
  if (version === 1) message.skip(5);
  else if (message.u8() === 2) return undefined;
  return Array.from({length: rank}, () => message.u64());
}

/** Size of an array of this shape in bytes. Throws if the number is too large to be exact. */
export function arrayBytes(message: Cursor, shape: readonly number[], itemSize: number): number {
  if (shape.includes(0)) return 0;
  const bytes = shape.reduce((product, size) => product * size, itemSize);
  if (!Number.isSafeInteger(bytes)) throw message.damaged('an array of less than 2^53 bytes', `shape [${shape}]`);
  return bytes;
}

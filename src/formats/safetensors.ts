/** Hugging Face's safetensors format (https://github.com/huggingface/safetensors): a JSON header, then the values. */
import {type ByteSink} from '../base/byte_sink';
import {type BytePlace, type ByteSource} from '../base/byte_source';
import {show, ValueError} from '../base/errors';
import {bfloat16ToFloat32, float16ToFloat32} from '../base/half';
import {isObject} from '../base/json';
import {sizeOf} from '../base/shapes';

/** Bytes per element, by type. Only arrays of floats can be read; arrays of other types are only listed. */
const ITEM_SIZES: Record<string, number> = {
  ...{F64: 8, F32: 4, F16: 2, BF16: 2},
  ...{I64: 8, I32: 4, I16: 2, I8: 1, U64: 8, U32: 4, U16: 2, U8: 1, BOOL: 1, F8_E4M3: 1, F8_E5M2: 1},
};

/** Maximum size of the header in bytes, as in the reference implementation. */
const HEADER_LIMIT = 100_000_000;

/** One array of a file. */
export interface SafeTensor {
  readonly name: string;
  /** In the notation of safetensors, such as `F32`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Bytes per value. */
  readonly itemSize: number;
  readonly byteLength: number;
  /** Where its bytes are. */
  readonly place: BytePlace;
  /** Fills `target` with the bytes from `offset` on, little-endian. */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  /** @throws ValueError if the array does not hold floats. */
  readFloat32(): Promise<Float32Array>;
}

export interface SafetensorsFile {
  readonly tensors: ReadonlyMap<string, SafeTensor>;
  /** Arbitrary strings by name, such as `{format: "pt"}`. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The byte of the file where the values of the first array begin. */
  readonly start: number;
}

interface Entry {
  dtype: string;
  shape: number[];
  begin: number;
  end: number;
}

/**
 * Reads the header. Values are read on request, while the source is open.
 *
 * @throws ValueError unless the arrays fill the file without gaps, and the size of each follows from its type and
 * shape.
 */
export async function readSafetensors(source: ByteSource): Promise<SafetensorsFile> {
  const damaged = (expected: string, received: string) =>
    new ValueError(
      `"${source.name}" is not a safetensors file, or is damaged: expected ${expected}. Received: ${received}. ` +
        'Fetch it again.',
    );
  if (source.size < 10) throw damaged('a header', `${source.size} bytes`);
  const head = new Uint8Array(8);
  await source.readInto(0, head);
  const length = Number(new DataView(head.buffer).getBigUint64(0, true));
  if (length > Math.min(HEADER_LIMIT, source.size - 8)) {
    throw damaged('a header that fits into the file', `a header of ${length} bytes in a file of ${source.size}`);
  }
  const bytes = new Uint8Array(length);
  await source.readInto(8, bytes);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', {fatal: true}).decode(bytes));
  } catch (error) {
    throw damaged('JSON as its header', (error as Error).message);
  }
  if (!isObject(header)) throw damaged('an object as its header', show(header));
  const {__metadata__: metadata = {}, ...described} = header;
  const texts = isObject(metadata) ? Object.values(metadata) : [metadata];
  if (!texts.every(text => typeof text === 'string')) throw damaged('strings as its metadata', show(metadata));

  const entries = Object.entries(described).map(([name, value]) => {
    const entry = entryOf(value);
    if (!entry) throw damaged(`dtype, shape and data_offsets of "${name}"`, show(value));
    return [name, entry] as const;
  });
  let at = 0;
  for (const [name, {begin, end, dtype, shape}] of [...entries].sort(
    ([, x], [, y]) => x.begin - y.begin || x.end - y.end,
  )) {
    const size = sizeOf(shape) * ITEM_SIZES[dtype]!;
    if (begin !== at || end - begin !== size) {
      throw damaged(`"${name}" to have ${size} bytes from byte ${at} on`, `bytes ${begin} to ${end}`);
    }
    at = end;
  }
  if (8 + length + at !== source.size) throw damaged(`a file of ${8 + length + at} bytes`, `${source.size} bytes`);

  const tensors = new Map(entries.map(([name, entry]) => [name, tensorOf(source, name, entry, 8 + length)]));
  return {tensors, metadata: metadata as Record<string, string>, start: 8 + length};
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function entryOf(value: unknown): Entry | undefined {
  if (!isObject(value)) return undefined;
  const {dtype, shape, data_offsets: offsets} = value;
  if (typeof dtype !== 'string' || !Object.hasOwn(ITEM_SIZES, dtype)) return undefined;
  if (!Array.isArray(shape) || !shape.every(isCount)) return undefined;
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) return undefined;
  const [begin, end] = offsets as [number, number];
  return {dtype, shape, begin, end};
}

/** @param start where the values of the file begin. */
function tensorOf(source: ByteSource, name: string, {dtype, shape, begin, end}: Entry, start: number): SafeTensor {
  const byteLength = end - begin;
  const place = {source, start: start + begin, end: start + end};
  const readInto = (offset: number, target: Uint8Array) => source.readInto(place.start + offset, target);
  const readFloat32 = async () => {
    if (!['F64', 'F32', 'F16', 'BF16'].includes(dtype)) {
      throw new ValueError(`Expected floats in "${name}" of "${source.name}". Received: ${dtype}.`);
    }
    const bytes = new Uint8Array(byteLength);
    await readInto(0, bytes);
    if (dtype === 'F32') return new Float32Array(bytes.buffer);
    const floats = new Float32Array(sizeOf(shape));
    if (dtype === 'F64') floats.set(new Float64Array(bytes.buffer));
    else (dtype === 'BF16' ? bfloat16ToFloat32 : float16ToFloat32)(new Uint16Array(bytes.buffer), floats);
    return floats;
  };
  return {name, dtype, shape, itemSize: ITEM_SIZES[dtype]!, byteLength, place, readInto, readFloat32};
}

/** An array to write. */
export interface TensorContent {
  readonly name: string;
  /** In the notation of safetensors, such as `F32`. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Its bytes, little-endian. A piece may be reused once the next one is requested. */
  pieces(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** An array of float32 in memory, to be written. */
export const float32Content = (name: string, shape: readonly number[], values: Float32Array): TensorContent => ({
  ...{name, dtype: 'F32', shape},
  pieces: () => [new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength)],
});

/**
 * Writes a file; the sink stays open. Arrays are sorted as Hugging Face's writer does: those with more bytes per value
 * first, so that each begins at a multiple of them, and then by name.
 */
export async function writeSafetensors(
  sink: ByteSink,
  contents: readonly TensorContent[],
  metadata: Record<string, string> = {format: 'pt'},
): Promise<void> {
  const sorted = [...contents].sort(
    (x, y) => ITEM_SIZES[y.dtype]! - ITEM_SIZES[x.dtype]! || (x.name < y.name ? -1 : Number(x.name > y.name)),
  );
  const header: Record<string, unknown> = {__metadata__: metadata};
  let at = 0;
  for (const {name, dtype, shape} of sorted) {
    const end = at + sizeOf(shape) * ITEM_SIZES[dtype]!;
    header[name] = {dtype, shape, data_offsets: [at, end]};
    at = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  // Padded with spaces, so that values start at a multiple of 8 bytes.
  const head = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(head.length - 8), true);
  head.set(text, 8);
  await sink.write(head);
  for (const {pieces} of sorted) for await (const piece of pieces()) await sink.write(piece);
}

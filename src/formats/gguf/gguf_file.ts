/** GGUF, the files of llama.cpp (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata and tensors. */
import {type ByteSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {damaged} from './errors';
import {HeaderReader} from './header_reader';
import {type GgufValue, readValue, ValueType} from './metadata';
import {type TensorType, tensorType} from './tensor_types';

/** One tensor of a file. */
export interface GgufTensor {
  readonly name: string;
  /** The longest stride first, as in NumPy. Files list the dimensions in reverse. */
  readonly shape: readonly number[];
  readonly type: TensorType;
  /** The file that holds its values. */
  readonly source: ByteSource;
  /** Where its values begin in the file. */
  readonly offset: number;
  readonly byteLength: number;
}

export interface GgufFile {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In the order of the file. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

const MAGIC = 'GGUF';
const VERSIONS = [2, 3];
const ALIGNMENT = 'general.alignment';
const DEFAULT_ALIGNMENT = 32;
const MAX_DIMENSIONS = 4;
/** Maximum bytes of a key. */
const MAX_KEY = 65_535;

const utf8 = new TextDecoder('utf-8', {ignoreBOM: true, fatal: true});

/** Whether a file begins as GGUF files do. */
export async function isGguf(source: ByteSource): Promise<boolean> {
  if (source.size < 4) return false;
  const bytes = new Uint8Array(4);
  await source.readInto(0, bytes);
  return String.fromCharCode(...bytes) === MAGIC;
}

/**
 * Reads the header of a file. Values of tensors are read later, while the source is open.
 *
 * @throws ValueError unless it is a GGUF file of version 2 or 3, little-endian, whose tensors are inside it, aligned, and
 * do not overlap.
 */
export async function readGguf(source: ByteSource): Promise<GgufFile> {
  const reader = new HeaderReader(source);
  const version = await readVersion(reader, source.name);
  const tensorCount = await reader.count('the number of tensors');
  const valueCount = await reader.count('the number of metadata values');
  // A value takes at least 13 bytes (key length, type, one byte), a tensor 32.
  reader.expect(valueCount * 13 + tensorCount * 32, `${valueCount} metadata values and ${tensorCount} tensors`);
  const metadata = await readMetadata(reader, valueCount);
  const infos = await readTensorInfos(reader, tensorCount);
  const alignment = alignmentOf(metadata, source.name);
  const start = Math.ceil(reader.position / alignment) * alignment;
  return {version, metadata, tensors: placed(infos, start, alignment, source)};
}

async function readVersion(reader: HeaderReader, name: string): Promise<number> {
  const magic = await reader.bytes(4, 'the first bytes "GGUF"');
  const text = String.fromCharCode(...magic);
  if (text !== MAGIC) throw reader.damaged('the first bytes "GGUF"', JSON.stringify(text));
  const version = await reader.uint32('the version');
  if (VERSIONS.includes(version)) return version;
  if (version % 65_536 === 0 && version !== 0) {
    throw new ValueError(
      `Expected a little-endian GGUF file. Received: "${name}", which is big-endian. Convert the model again without ` +
        'the big-endian option.',
    );
  }
  throw new ValueError(
    `Expected a GGUF file of version ${VERSIONS.join(' or ')}. Received: "${name}" of version ${version}. ` +
      (version === 1 ? 'Convert the model again with a current llama.cpp.' : 'Check that the file is complete.'),
  );
}

async function readKey(reader: HeaderReader, what: string): Promise<string> {
  const bytes = await reader.string(what);
  if (bytes.length === 0 || bytes.length > MAX_KEY) {
    throw reader.damaged(`${what} of 1 to ${MAX_KEY} bytes`, `${bytes.length} bytes`);
  }
  try {
    return utf8.decode(bytes);
  } catch {
    throw reader.damaged(`${what} in UTF-8`, 'other bytes');
  }
}

async function readMetadata(reader: HeaderReader, count: number): Promise<Map<string, GgufValue>> {
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    const key = await readKey(reader, `the key of metadata value ${i}`);
    const type = await reader.uint32(`the type of "${key}"`);
    if (metadata.has(key)) throw reader.damaged('each metadata key once', `"${key}" again`);
    metadata.set(key, await readValue(reader, type, key));
    if (key === ALIGNMENT && type !== ValueType.uint32) {
      throw reader.damaged(`"${ALIGNMENT}" to be a uint32 (type 4)`, `type ${type}`);
    }
  }
  return metadata;
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>, name: string): number {
  const alignment = (metadata.get(ALIGNMENT) ?? DEFAULT_ALIGNMENT) as number;
  if (alignment > 0 && Number.isInteger(Math.log2(alignment))) return alignment;
  throw damaged(name, `"${ALIGNMENT}" to be a power of two`, String(alignment));
}

/** A tensor with its place after the header. */
type Info = Pick<GgufTensor, 'name' | 'shape' | 'type' | 'byteLength'> & {at: number};

async function readTensorInfos(reader: HeaderReader, count: number): Promise<Info[]> {
  const infos: Info[] = [];
  const names = new Set<string>();
  for (let i = 0; i < count; i++) {
    const name = await readKey(reader, `the name of tensor ${i}`);
    if (names.has(name)) throw reader.damaged('each tensor once', `"${name}" again`);
    names.add(name);
    const rank = await reader.uint32(`the dimensions of "${name}"`);
    if (rank < 1 || rank > MAX_DIMENSIONS) {
      throw reader.damaged(`"${name}" to have 1 to ${MAX_DIMENSIONS} dimensions`, String(rank));
    }
    const shape: number[] = [];
    for (let axis = 0; axis < rank; axis++) shape.unshift(await reader.count(`the dimensions of "${name}"`));
    const id = await reader.uint32(`the type of "${name}"`);
    const at = await reader.count(`the place of "${name}"`);
    infos.push({name, shape, at, ...measured(reader, name, shape, id)});
  }
  return infos;
}

/** The type and the size of a tensor. */
function measured(
  reader: HeaderReader,
  name: string,
  shape: readonly number[],
  id: number,
): Pick<Info, 'type' | 'byteLength'> {
  const type = tensorType(id);
  if (!type) throw reader.damaged(`"${name}" to have a type of ggml`, `type ${id}`);
  const count = sizeOf(shape);
  if (count < 1 || !Number.isSafeInteger(count * type.blockBytes)) {
    throw reader.damaged(`"${name}" to have positive dimensions that fit into a file`, `[${shape}]`);
  }
  if (shape.at(-1)! % type.blockSize !== 0) {
    const blocks = `whole blocks of ${type.blockSize} values in the rows of "${name}", which is ${type.name}`;
    throw reader.damaged(blocks, `rows of ${shape.at(-1)!}`);
  }
  return {type, byteLength: (count / type.blockSize) * type.blockBytes};
}

/** The tensors with their places in the file. */
function placed(infos: readonly Info[], start: number, alignment: number, source: ByteSource): Map<string, GgufTensor> {
  let end = 0;
  let last = '';
  for (const {name, at, byteLength} of [...infos].sort((a, b) => a.at - b.at)) {
    if (at % alignment !== 0) throw damaged(source.name, `"${name}" at a multiple of ${alignment} bytes`, `byte ${at}`);
    if (at < end) throw damaged(source.name, `"${name}" after "${last}", which ends at byte ${end}`, `byte ${at}`);
    end = at + byteLength;
    last = name;
    if (start + end > source.size) {
      throw damaged(source.name, `a file of at least ${start + end} bytes, for "${name}"`, `${source.size} bytes`);
    }
  }
  return new Map(infos.map(({at, ...info}) => [info.name, {...info, source, offset: start + at}]));
}

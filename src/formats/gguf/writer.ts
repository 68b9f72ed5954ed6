/** Writes GGUF files: metadata, descriptions of tensors, and then values from start to end. */
import {type ByteSink} from '../../base/byte_sink';
import {ByteWriter} from '../../base/byte_writer';
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {ValueType} from './metadata';
import {type TensorType, tensorType, tensorTypeId} from './tensor_types';

const VERSION = 3;
/** Tensors begin at multiples of this. It is the default, which files do not have to name. */
const ALIGNMENT = 32;

const utf8 = new TextEncoder();

const aligned = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

/** A tensor to write. */
export interface GgufContent {
  readonly name: string;
  /** The longest stride first, as in NumPy. */
  readonly shape: readonly number[];
  /** Name of a type, such as `Q8_0`. */
  readonly type: string;
  /**
   * The bytes in pieces, of the total size that follows from shape and type. Called when the writer reaches the tensor.
   * One array may be reused for all pieces.
   */
  data(): AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Bytes of a tensor. */
export function tensorBytes({name, shape, type}: Pick<GgufContent, 'name' | 'shape' | 'type'>): number {
  const {blockSize, blockBytes} = typeOf(type);
  if (shape.at(-1)! % blockSize !== 0) {
    throw new ValueError(
      `Expected whole blocks of ${blockSize} values in the rows of "${name}" for ${type}. Received: rows of ` +
        `${shape.at(-1)}.`,
    );
  }
  return (sizeOf(shape) / blockSize) * blockBytes;
}

const typeOf = (name: string): TensorType => tensorType(tensorTypeId(name))!;

/**
 * A file to write. First add metadata and tensors. Then `writeTo` writes it from start to end, requesting the values of
 * each tensor when it gets to it.
 */
export class GgufWriter {
  private readonly values = new ByteWriter();
  private readonly keys = new Set<string>();
  private readonly tensors = new Map<string, GgufContent>();

  private key(key: string, type: number): ByteWriter {
    if (this.keys.has(key)) throw new Error(`internal: "${key}" is in the file already.`);
    this.keys.add(key);
    return string(this.values, utf8.encode(key)).u32(type);
  }

  private array(key: string, type: number, count: number): ByteWriter {
    return this.key(key, ValueType.array).u32(type).u64(count);
  }

  text(key: string, value: string): this {
    string(this.key(key, ValueType.string), utf8.encode(value));
    return this;
  }
  uint32(key: string, value: number): this {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** 32) {
      throw new ValueError(`Expected a whole number below 2^32 as "${key}". Received: ${value}.`);
    }
    this.key(key, ValueType.uint32).u32(value);
    return this;
  }
  float32(key: string, value: number): this {
    this.key(key, ValueType.float32).f32(value);
    return this;
  }
  flag(key: string, value: boolean): this {
    this.key(key, ValueType.bool).u8(value ? 1 : 0);
    return this;
  }
  /** A list of strings, in UTF-8. */
  texts(key: string, values: readonly Uint8Array[]): this {
    const bytes = this.array(key, ValueType.string, values.length);
    for (const value of values) string(bytes, value);
    return this;
  }
  float32s(key: string, values: ArrayLike<number>): this {
    const bytes = this.array(key, ValueType.float32, values.length);
    for (let i = 0; i < values.length; i++) bytes.f32(values[i]!);
    return this;
  }
  int32s(key: string, values: ArrayLike<number>): this {
    const bytes = this.array(key, ValueType.int32, values.length);
    for (let i = 0; i < values.length; i++) bytes.u32(values[i]!);
    return this;
  }

  /** Adds a tensor after those that were added before. */
  tensor(content: GgufContent): this {
    if (this.tensors.has(content.name)) throw new Error(`internal: "${content.name}" is in the file already.`);
    this.tensors.set(content.name, content);
    return this;
  }

  /** Bytes of all tensors, without the gaps between them. */
  get tensorBytes(): number {
    return [...this.tensors.values()].reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
  }

  /**
   * Writes the file; the sink stays open.
   *
   * @throws ValueError if rows are not whole blocks; Error if the pieces of a tensor have more or fewer bytes than its
   * shape requires.
   */
  async writeTo(sink: ByteSink): Promise<void> {
    const head = new ByteWriter().text('GGUF').u32(VERSION).u64(this.tensors.size).u64(this.keys.size);
    head.raw(this.values.bytes);
    let at = 0;
    for (const tensor of this.tensors.values()) {
      const {name, shape, type} = tensor;
      string(head, utf8.encode(name)).u32(shape.length);
      for (const size of [...shape].reverse()) head.u64(size);
      head.u32(tensorTypeId(type)).u64(at);
      at += aligned(tensorBytes(tensor));
    }
    head.zeros(aligned(head.length) - head.length);
    await sink.write(head.bytes);
    for (const tensor of this.tensors.values()) await writeTensor(sink, tensor);
  }
}

const string = (into: ByteWriter, bytes: Uint8Array): ByteWriter => into.u64(bytes.length).raw(bytes);

async function writeTensor(sink: ByteSink, tensor: GgufContent): Promise<void> {
  const wanted = tensorBytes(tensor);
  let written = 0;
  for await (const piece of tensor.data()) {
    written += piece.length;
    if (written > wanted) break;
    await sink.write(piece);
  }
  if (written !== wanted) {
    throw new Error(
      `internal: the tensor "${tensor.name}" of "${sink.name}" has ${wanted} bytes. Received: ` +
        `${written > wanted ? 'more' : written}.`,
    );
  }
  const padding = aligned(wanted) - wanted;
  if (padding > 0) await sink.write(new Uint8Array(padding));
}

/** Checked access to the metadata of a GGUF file. */
import {show, ValueError} from '../../base/errors';
import {type GgufFile, GgufStrings, type GgufValue} from '../../formats/gguf';

/** The key of the chat template. */
export const CHAT_TEMPLATE = 'tokenizer.chat_template';

/** Metadata of one file, with errors that name the key. */
export class Metadata {
  /**
   * @param file its name in errors.
   * @param prefix before each key, such as "gemma3.".
   */
  constructor(
    private readonly file: string,
    private readonly values: GgufFile['metadata'],
    private readonly prefix = '',
  ) {}

  /** The same metadata, with keys that begin with a prefix. */
  under(prefix: string): Metadata {
    return new Metadata(this.file, this.values, prefix);
  }

  has(key: string): boolean {
    return this.values.has(this.prefix + key);
  }

  raw(key: string): GgufValue | undefined {
    return this.values.get(this.prefix + key);
  }

  invalid(key: string, expected: string): ValueError {
    const received = this.has(key) ? shown(this.raw(key)!) : 'a file without it';
    return new ValueError(`Expected ${expected} as "${this.prefix}${key}" in "${this.file}". Received: ${received}.`);
  }

  /** A text; `fallback` if there is none. */
  text(key: string, fallback?: string): string {
    const value = this.raw(key) ?? fallback;
    if (typeof value !== 'string') throw this.invalid(key, 'a text');
    return value;
  }

  /** A whole number above 0. An array of equal numbers, one for each block, counts as one. */
  size(key: string, fallback?: number): number {
    const value = this.has(key) ? single(this.raw(key)!) : fallback;
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 1) {
      throw this.invalid(key, 'a whole number above 0, the same for all blocks');
    }
    return value;
  }

  /** A number; `fallback` if there is none. */
  number(key: string, fallback?: number): number {
    const value = this.raw(key) ?? fallback;
    if (typeof value !== 'number' || !Number.isFinite(value)) throw this.invalid(key, 'a number');
    return value;
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.raw(key) ?? fallback;
    if (typeof value !== 'boolean') throw this.invalid(key, 'true or false');
    return value;
  }

  /** Numbers in a list of this length. */
  numbers(key: string, count: number): number[] {
    const value = this.raw(key);
    const numbers = ArrayBuffer.isView(value) ? Array.from(value as Float32Array, Number) : [];
    if (numbers.length !== count || !numbers.every(Number.isFinite)) throw this.invalid(key, `${count} numbers`);
    return numbers;
  }

  /** A list of numbers of any length, as a typed array. */
  list(key: string): ArrayLike<number> {
    const value = this.raw(key);
    if (value instanceof Float32Array || value instanceof Int32Array || value instanceof Uint32Array) return value;
    throw this.invalid(key, 'a list of numbers');
  }

  texts(key: string): GgufStrings {
    const value = this.raw(key);
    if (value instanceof GgufStrings) return value;
    throw this.invalid(key, 'a list of texts');
  }
}

/** The value of an array whose entries are all the same, or the value itself. */
function single(value: GgufValue): GgufValue | undefined {
  if (!ArrayBuffer.isView(value)) return value;
  const all = Array.from(value as Uint32Array, Number);
  return all.length > 0 && all.every(entry => entry === all[0]) ? all[0] : undefined;
}

function shown(value: GgufValue): string {
  if (value instanceof GgufStrings) return `a list of ${value.length} texts`;
  if (ArrayBuffer.isView(value)) return show(Array.from(value as Uint32Array, Number));
  return typeof value === 'bigint' ? String(value) : show(value);
}

/** Builds GGUF files byte by byte, also damaged ones. */

type Part = Uint8Array | number[] | string;

export const u32 = (value: number): number[] => [...new Uint8Array(Uint32Array.of(value).buffer)];
export const u64 = (value: number | bigint): number[] => [...new Uint8Array(BigUint64Array.of(BigInt(value)).buffer)];
export const f32 = (value: number): number[] => [...new Uint8Array(Float32Array.of(value).buffer)];

export function bytesOf(...parts: Part[]): Uint8Array {
  return Uint8Array.from(
    parts.flatMap(part => [...(typeof part === 'string' ? new TextEncoder().encode(part) : part)]),
  );
}

/** A string with its length. */
export const text = (value: string): Uint8Array => bytesOf(u64(new TextEncoder().encode(value).length), value);

/** A metadata value: key, type, and the bytes of the value. */
export const value = (key: string, type: number, ...parts: Part[]): Uint8Array =>
  bytesOf(text(key), u32(type), ...parts);

/** The description of a tensor. `dimensions` are in the order of the file. */
export const info = (name: string, dimensions: number[], type: number, offset: number): Uint8Array =>
  bytesOf(text(name), u32(dimensions.length), ...dimensions.map(u64), u32(type), u64(offset));

export interface GgufParts {
  magic?: string;
  version?: number;
  values?: Uint8Array[];
  infos?: Uint8Array[];
  valueCount?: number | bigint;
  tensorCount?: number | bigint;
  alignment?: number;
  data?: Uint8Array;
}

export function ggufBytes(parts: GgufParts = {}): Uint8Array {
  const {magic = 'GGUF', version = 3, values = [], infos = [], alignment = 32, data = new Uint8Array(0)} = parts;
  const {valueCount = values.length, tensorCount = infos.length} = parts;
  const head = bytesOf(magic, u32(version), u64(tensorCount), u64(valueCount), ...values, ...infos);
  const padding = new Uint8Array((alignment - (head.length % alignment)) % alignment);
  return bytesOf(head, padding, data);
}

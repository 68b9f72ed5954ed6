/** Values of tensors as float32, exactly as llama.cpp's own `dequantize` computes them. */
import {bfloat16ToFloat32, float16ToFloat32} from '../../base/half';
import {type Dequantize} from './blocks';
import {SMALL_BLOCKS} from './dequantize_blocks';
import {SUPER_BLOCKS} from './dequantize_super_blocks';

/** Sixteen-bit words from bytes at any offset; views of them need an even one. */
function words(bytes: Uint8Array, count: number): Uint16Array {
  const {buffer, byteOffset} = byteOffsetIsEven(bytes) ? bytes : bytes.slice();
  return new Uint16Array(buffer, byteOffset, count);
}

const byteOffsetIsEven = ({byteOffset}: Uint8Array) => byteOffset % 2 === 0;

const f32: Dequantize = (bytes, count, out) => {
  new Uint8Array(out.buffer, out.byteOffset, 4 * count).set(bytes.subarray(0, 4 * count));
};
const f16: Dequantize = (bytes, count, out) => float16ToFloat32(words(bytes, count), out.subarray(0, count));
const bf16: Dequantize = (bytes, count, out) => bfloat16ToFloat32(words(bytes, count), out.subarray(0, count));

const decoders: Readonly<Record<string, Dequantize>> = {
  ...{F32: f32, F16: f16, BF16: bf16},
  ...SMALL_BLOCKS,
  ...SUPER_BLOCKS,
};

/** Names of the types whose values can be read. */
export const READABLE_TYPES: readonly string[] = Object.keys(decoders);

/** The decoder of a type; undefined for types that cannot be read. */
export const decoderOf = (type: string): Dequantize | undefined =>
  Object.hasOwn(decoders, type) ? decoders[type] : undefined;

/** What the decoders of quantized blocks have in common. */

/** Writes the values of `count` blocks to `out`. The first block begins at byte 0. */
export type Dequantize = (bytes: Uint8Array, count: number, out: Float32Array) => void;

/** 2^(e − 25) for each exponent e of half precision. */
const POWERS = Float64Array.from({length: 31}, (_, exponent) => 2 ** (Math.max(exponent, 1) - 25));

/** The half-precision number at a byte. */
export function halfAt(bytes: Uint8Array, at: number): number {
  const high = bytes[at + 1]!;
  const exponent = (high >> 2) & 31;
  const fraction = ((high & 3) << 8) | bytes[at]!;
  const sign = high < 128 ? 1 : -1;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  return sign * POWERS[exponent]! * (exponent === 0 ? fraction : fraction + 1024);
}

/** The bytes of a block as signed numbers. */
export const signed = ({buffer, byteOffset, byteLength}: Uint8Array): Int8Array =>
  new Int8Array(buffer, byteOffset, byteLength);

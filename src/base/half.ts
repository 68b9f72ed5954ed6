/** Bitwise conversions between 32-bit floats and the two 16-bit formats of stored weights. */

const SUBNORMAL_UNIT = 2 ** -24;

/** Widens IEEE 754 half-precision values. Always exact; NaNs keep their sign and payload. */
export function float16ToFloat32(bits: Uint16Array, out: Float32Array): void {
  checkLengths(bits, out);
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) {
    const half = bits[i]!;
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude < 0x0400) {
      // Zeros and subnormals have no exponent to shift; their value is a multiple of the smallest step.
      out[i] = magnitude * SUBNORMAL_UNIT;
      words[i] = words[i]! | sign;
    } else {
      // The exponent's bias grows by 112. For infinities and NaNs, twice that takes exponent 31 to 255.
      words[i] = sign | ((magnitude << 13) + (magnitude < 0x7c00 ? 0x38000000 : 0x70000000));
    }
  }
}

/** Widens bfloat16 values: the upper halves of 32-bit floats. */
export function bfloat16ToFloat32(bits: Uint16Array, out: Float32Array): void {
  checkLengths(bits, out);
  const words = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0; i < bits.length; i++) words[i] = bits[i]! << 16;
}

/** Rounds to the nearest bfloat16, ties to even. Values out of range become infinities; NaNs become quiet NaNs. */
export function float32ToBfloat16(values: Float32Array, out: Uint16Array): void {
  checkLengths(values, out);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    // Rounding a NaN could carry into its sign or turn it into an infinity.
    if ((word & 0x7fffffff) > 0x7f800000) out[i] = (word >>> 16) | 0x0040;
    else out[i] = (word + 0x7fff + ((word >>> 16) & 1)) >>> 16;
  }
}

/** Rounds to the nearest IEEE 754 half, ties to even. Values out of range become infinities; NaNs become quiet NaNs. */
export function float32ToFloat16(values: Float32Array, out: Uint16Array): void {
  checkLengths(values, out);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    const sign = (word >>> 16) & 0x8000;
    const magnitude = word & 0x7fffffff;
    if (magnitude > 0x7f800000) {
      out[i] = sign | 0x7e00;
    } else if (magnitude < 0x38800000) {
      // Below the smallest normal value: a multiple of the smallest step. Dividing by a power of two is exact.
      out[i] = sign | roundToEven(Math.abs(values[i]!) / SUBNORMAL_UNIT);
    } else {
      // A carry out of the fraction raises the exponent; after the largest one comes infinity.
      const rounded = (magnitude - 0x38000000 + 0x0fff + ((magnitude >>> 13) & 1)) >>> 13;
      out[i] = sign | Math.min(rounded, 0x7c00);
    }
  }
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

function checkLengths(from: ArrayLike<number>, to: ArrayLike<number>): void {
  if (from.length === to.length) return;
  throw new Error(
    `Expected an output as long as the input, ${from.length}. Received: ${to.length}. ` +
      `Allocate the output with the input's length.`,
  );
}

/** Conversions between float32 and the 16-bit formats, checked against their definitions. */
import {bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16, float32ToFloat16} from '../../src/base/half';

const ALL = Uint16Array.from({length: 65_536}, (_, i) => i);

/** A binary floating-point value from its definition: sign, exponent and fraction fields. */
function define(bits: number, exponentBits: number, fractionBits: number): number {
  const sign = bits >>> (exponentBits + fractionBits) ? -1 : 1;
  const exponent = (bits >>> fractionBits) & (2 ** exponentBits - 1);
  const fraction = (bits & (2 ** fractionBits - 1)) / 2 ** fractionBits;
  const bias = 2 ** (exponentBits - 1) - 1;
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias);
  return sign * (1 + fraction) * 2 ** (exponent - bias);
}

function words(...values: number[]): Float32Array {
  return new Float32Array(Uint32Array.from(values).buffer);
}

describe('float16ToFloat32', () => {
  const out = new Float32Array(65_536);
  float16ToFloat32(ALL, out);

  test('gives the defined value of all 65,536 bit patterns', () => {
    const wrong = [...ALL].filter(bits => !Object.is(out[bits], define(bits, 5, 10)));
    expect(wrong).toEqual([]);
  });

  test('keeps signed zeros, infinities, subnormals and the largest value', () => {
    const at = (bits: number) => out[bits];
    expect([at(0x0000), at(0x8000), at(0x7c00), at(0xfc00)]).toEqual([0, -0, Infinity, -Infinity]);
    expect([at(0x0001), at(0x83ff), at(0x7bff)]).toEqual([2 ** -24, -1023 * 2 ** -24, 65_504]);
  });

  test('keeps the sign and payload of NaNs', () => {
    const bits = new Uint32Array(out.buffer);
    expect(bits[0x7e01]).toBe(0x7fc02000);
    expect(bits[0xfd55]).toBe(0xffaaa000);
  });

  test('writes only its part of a shared buffer', () => {
    const whole = new Float32Array(4).fill(9);
    float16ToFloat32(Uint16Array.of(0x3c00, 0x0001), whole.subarray(1, 3));
    expect([...whole]).toEqual([9, 1, 2 ** -24, 9]);
  });
});

describe('float32ToFloat16', () => {
  const round = (...values: number[]) => {
    const out = new Uint16Array(values.length);
    float32ToFloat16(Float32Array.from(values), out);
    return [...out];
  };

  test('restores all 65,536 values, with NaNs turned into quiet NaNs', () => {
    const wide = new Float32Array(65_536);
    float16ToFloat32(ALL, wide);
    const back = new Uint16Array(65_536);
    float32ToFloat16(wide, back);
    const isNaN16 = (bits: number) => (bits & 0x7fff) > 0x7c00;
    expect([...ALL].filter(bits => back[bits] !== (isNaN16(bits) ? (bits & 0x8000) | 0x7e00 : bits))).toEqual([]);
  });

  test('rounds halves to even, up to infinity', () => {
    const step = 2 ** -10;
    expect(round(1 + step / 2, 1 + 1.5 * step, 1 + 0.51 * step, -1 - step / 2)).toEqual([
      0x3c00, 0x3c02, 0x3c01, 0xbc00,
    ]);
    expect(round(65_519, 65_520, 1e30, -Infinity)).toEqual([0x7bff, 0x7c00, 0x7c00, 0xfc00]);
    const unit = 2 ** -24;
    expect(round(0.5 * unit, 0.51 * unit, 1.5 * unit, 2.5 * unit, -1023.5 * unit)).toEqual([0, 1, 2, 2, 0x8400]);
  });
});

describe('bfloat16', () => {
  const wide = new Float32Array(65_536);
  bfloat16ToFloat32(ALL, wide);

  test('widens all 65,536 bit patterns to their defined values', () => {
    const wrong = [...ALL].filter(bits => !Object.is(wide[bits], define(bits, 8, 7)));
    expect(wrong).toEqual([]);
  });

  test('survives the round trip through float32, with NaNs turned into quiet NaNs', () => {
    const back = new Uint16Array(65_536);
    float32ToBfloat16(wide, back);
    const wrong = [...ALL].filter(bits => back[bits] !== (Number.isNaN(define(bits, 8, 7)) ? bits | 0x40 : bits));
    expect(wrong).toEqual([]);
  });

  test('rounds to nearest, ties to even', () => {
    const out = new Uint16Array(6);
    float32ToBfloat16(words(0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbf818000, 0x00008000), out);
    expect([...out]).toEqual([0x3f80, 0x3f82, 0x3f81, 0x3f80, 0xbf82, 0x0000]);
  });

  test('rounds each value to the nearer of its neighbours', () => {
    // Between any two neighbours: just below the middle rounds down, just above rounds up.
    const out = new Uint16Array(1);
    for (let bits = 0; bits < 0x7f80; bits += 13) {
      float32ToBfloat16(words(bits * 65_536 + 0x7fff), out);
      expect(out[0]).toBe(bits);
      float32ToBfloat16(words(bits * 65_536 + 0x8001), out);
      expect(out[0]).toBe(bits + 1);
    }
  });

  test('overflows to infinity and never turns a NaN into one', () => {
    const out = new Uint16Array(5);
    float32ToBfloat16(words(0x7f7fffff, 0xff7fffff, 0x7f800001, 0xffffffff, 0x7f800000), out);
    expect([...out]).toEqual([0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7f80]);
  });
});

test('lengths must agree', () => {
  const message = /as long as the input, 2\. Received: 3\. Allocate/;
  expect(() => float16ToFloat32(new Uint16Array(2), new Float32Array(3))).toThrow(message);
  expect(() => bfloat16ToFloat32(new Uint16Array(2), new Float32Array(3))).toThrow(message);
  expect(() => float32ToBfloat16(new Float32Array(2), new Uint16Array(3))).toThrow(message);
});

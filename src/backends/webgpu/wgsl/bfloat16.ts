/** Keys and values of a cache as bfloat16: words of two values, the first in the low half. */
import {type Program} from '../program';

/** Both values of a word, and the word of two values: to nearest, ties to even. */
export const PAIRS = `
fn lowOf(pair: u32) -> f32 { return bitcast<f32>(pair << 16u); }
fn highOf(pair: u32) -> f32 { return bitcast<f32>(pair & 0xffff0000u); }
fn halfOf(value: f32) -> u32 {
  let word = bitcast<u32>(value);
  // Rounding a NaN could turn it into an infinity.
  if ((word & 0x7fffffffu) > 0x7f800000u) { return (word >> 16u) | 0x40u; }
  return (word + 0x7fffu + ((word >> 16u) & 1u)) >> 16u;
}
fn rounded(value: f32) -> f32 { return lowOf(halfOf(value)); }
fn pairOf(low: f32, high: f32) -> u32 { return halfOf(low) | (halfOf(high) << 16u); }`;

/** x → y, two values to a word. */
export const packBfloat16: Program = {
  name: 'pack_bfloat16',
  size: 64,
  reads: {x: 'array<f32>'},
  writes: {y: 'array<u32>'},
  numbers: {count: 'u32'},
  declarations: PAIRS,
  body: `
  let index = group * SIZE + lane;
  if (index < n.count) { y[index] = pairOf(x[2u * index], x[2u * index + 1u]); }`,
};

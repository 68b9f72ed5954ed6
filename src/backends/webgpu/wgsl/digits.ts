/**
 * Rows of x as integers of three bytes each, for products with instructions that multiply four bytes at once. The 32
 * numbers of a block share a scale, a power of two such that the largest takes 23 bits: this loses less than sums in
 * float32. So a row has the same product alone, in float32, and among others, in bytes.
 */
import {type Program} from '../program';

/** Number of rows whose numbers are interleaved. */
export const DIGIT_ROWS = 4;
/**
 * Vectors for a block of four rows, which are the components of each: scales as floats, sums of the whole numbers,
 * then, for every four columns, the highest digits, those in the middle and the lowest ones, in the bytes of a word.
 */
export const DIGIT_VECTORS = 26;

/** x (count, columns) → digits. Eight invocations for a block of four rows. */
export const digits: Program = {
  name: 'digits',
  size: 64,
  packedDots: true,
  reads: {x: 'array<f32>'},
  writes: {y: 'array<vec4<u32>>'},
  numbers: {count: 'u32', columns: 'u32', blocks: 'u32'},
  declarations: `
var<workgroup> most: array<vec4<u32>, SIZE>;
var<workgroup> totals: array<vec4<i32>, SIZE>;`,
  body: `
  let unit = group * 8u + (lane >> 3u);
  let word = lane & 7u;
  let rows = unit / n.blocks * 4u;
  let block = unit % n.blocks;
  var values = array<vec4<f32>, 4>();
  var own = vec4<u32>();
  for (var r = 0u; r < 4u; r++) {
    for (var i = 0u; i < 4u; i++) {
      let column = 32u * block + 4u * word + i;
      if (rows + r < n.count && column < n.columns) {
        let value = x[(rows + r) * n.columns + column];
        values[r][i] = value;
        // As words, magnitudes have the same order, and NaN is the largest.
        own[r] = max(own[r], bitcast<u32>(value) & 0x7fffffffu);
      }
    }
  }
  most[lane] = own;
  workgroupBarrier();
  for (var i = 0u; i < 8u; i++) { own = max(own, most[(lane & 56u) + i]); }
  // One more where the largest would not fit: 127 in all three digits is a little less than 2^23.
  let exponent = max((own + vec4<u32>(0x20000u)) >> vec4<u32>(23u), vec4<u32>(24u));
  let finite = own < vec4<u32>(0x7f800000u);
  let factor = bitcast<vec4<f32>>(select(vec4<u32>(), vec4<u32>(276u) - exponent, finite) << vec4<u32>(23u));
  var whole = array<vec4<i32>, 4>();
  var sum = vec4<i32>();
  for (var r = 0u; r < 4u; r++) {
    if (finite[r]) { whole[r] = vec4<i32>(round(values[r] * factor[r])); }
    sum[r] = whole[r].x + whole[r].y + whole[r].z + whole[r].w;
  }
  totals[lane] = sum;
  workgroupBarrier();
  if (rows >= n.count) { return; }
  let at = unit * ${DIGIT_VECTORS}u;
  if (word == 0u) {
    for (var i = 1u; i < 8u; i++) { sum += totals[lane + i]; }
    // NaN as a word, since shaders may treat numbers that are not finite as they like.
    y[at] = select(vec4<u32>(0x7fc00000u), (exponent - vec4<u32>(22u)) << vec4<u32>(23u), finite);
    y[at + 1u] = bitcast<vec4<u32>>(vec4<f32>(sum));
  }
  // Digits from -128 to 127, of which the lower bytes are those of the number.
  let half = vec4<i32>(128);
  let eight = vec4<u32>(8u);
  for (var digit = 3u; digit > 0u; digit--) {
    y[at + 1u + 3u * word + digit] = vec4<u32>(
      pack4xI8(whole[0]), pack4xI8(whole[1]), pack4xI8(whole[2]), pack4xI8(whole[3]),
    );
    for (var r = 0u; r < 4u; r++) { whole[r] = (whole[r] + half) >> eight; }
  }`,
};

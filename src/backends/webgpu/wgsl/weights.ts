/**
 * Dense kernels in WGSL, packed or not, as matrices W (rows, columns) in groups of eight rows and blocks of 32 columns.
 * The packed formats are described in `../../simd/engine/command.ts`. `wColumns(group, block, half, t)` returns columns
 * 8 t to 8 t + 7 of a block, for four rows each: the lower half of the group or the upper one.
 */
import {type WeightFormat} from '../../../weights/dtype';
import {type NumberType} from '../program';

/** Vectors of four words in a block. */
const VECTORS = {bfloat16: 32, int8: 17, int4: 10};

/** Four bfloat16 numbers of two words. */
const HALVES = `
fn halves(words: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}`;

const BODIES: Record<WeightFormat, (name: string) => string> = {
  bfloat16: name => `
  let at = (group * n.blocks + block) * 32u + 8u * t + half;
  for (var pair = 0u; pair < 4u; pair++) {
    let q = ${name}[at + 2u * pair];
    values[2u * pair] = bitcast<vec4<f32>>(q << vec4<u32>(16u));
    values[2u * pair + 1u] = bitcast<vec4<f32>>(q & vec4<u32>(0xffff0000u));
  }`,
  int8: name => `
  let at = (group * n.blocks + block) * 17u;
  let s = ${name}[at];
  let scale = halves(select(s.xy, s.zw, half == 1u));
  for (var quad = 0u; quad < 2u; quad++) {
    // Even columns hold the number + 128: this makes all four bytes two's complement.
    let q = bitcast<vec4<i32>>(${name}[at + 1u + 4u * t + 2u * quad + half] ^ vec4<u32>(0x00800080u));
    for (var i = 0u; i < 4u; i++) {
      values[4u * quad + i] = vec4<f32>((q << vec4<u32>(24u - 8u * i)) >> vec4<u32>(24u)) * scale;
    }
  }`,
  int4: name => `
  let at = (group * n.blocks + block) * 10u;
  let s = ${name}[at];
  let m = ${name}[at + 1u];
  let scale = halves(select(s.xy, s.zw, half == 1u));
  let minimum = halves(select(m.xy, m.zw, half == 1u));
  let q = ${name}[at + 2u + 2u * t + half];
  for (var i = 0u; i < 4u; i++) {
    values[i] = vec4<f32>((q >> vec4<u32>(8u * i)) & vec4<u32>(15u)) * scale + minimum;
    values[i + 4u] = vec4<f32>((q >> vec4<u32>(8u * i + 4u)) & vec4<u32>(15u)) * scale + minimum;
  }`,
  // (rows / inner, columns, inner)
  float32: name => `
  let inner = n.${name}Inner;
  for (var r = 0u; r < 4u; r++) {
    let row = 8u * group + 4u * half + r;
    if (row >= n.${name}Rows) { break; }
    let at = (row / inner) * n.columns * inner + row % inner;
    for (var i = 0u; i < 8u; i++) {
      let column = 32u * block + 8u * t + i;
      if (column < n.columns) { values[i][r] = ${name}[at + column * inner]; }
    }
  }`,
};

export const weightType = (format: WeightFormat): string => (format === 'float32' ? 'array<f32>' : 'array<vec4<u32>>');

/**
 * The numbers that a matrix needs, in addition to the common `columns` and `blocks`: its rows, and `inner` of a float32
 * kernel.
 */
export const weightNumbers = (name: string): Record<string, NumberType> => ({
  [`${name}Rows`]: 'u32',
  [`${name}Inner`]: 'u32',
});

/** Declarations for a program that reads these matrices. */
export const weightCode = (matrices: Readonly<Record<string, WeightFormat>>): string =>
  HALVES +
  Object.entries(matrices)
    .map(
      ([name, format]) => `
fn ${name}Columns(group: u32, block: u32, half: u32, t: u32) -> array<vec4<f32>, 8> {
  var values = array<vec4<f32>, 8>();${BODIES[format](name)}
  return values;
}`,
    )
    .join('');

const CODES = {
  int8: `
  // Even columns hold the number + 128: this makes all four bytes two's complement.
  let at = (group * n.blocks + block) * 17u + 1u + 4u * t + half;
  return array(w[at] ^ vec4<u32>(0x00800080u), w[at + 2u] ^ vec4<u32>(0x00800080u));`,
  int4: `
  let q = w[(group * n.blocks + block) * 10u + 2u + 2u * t + half];
  return array(q & vec4<u32>(0x0f0f0f0fu), (q >> vec4<u32>(4u)) & vec4<u32>(0x0f0f0f0fu));`,
};

/**
 * Declarations for a program that reads W as integers, a word of four signed bytes for four columns of a row:
 * `wCodes(group, block, half, t)[i]` has columns 8 t + 4 i to 8 t + 4 i + 3 of four rows. `wScales`, and `wMinima` for
 * int4, turn them into the weights.
 */
export const codeReader = (format: 'int8' | 'int4'): string => `${HALVES}
fn wCodes(group: u32, block: u32, half: u32, t: u32) -> array<vec4<u32>, 2> {${CODES[format]}
}
fn wScales(group: u32, block: u32, half: u32) -> vec4<f32> {
  let s = w[(group * n.blocks + block) * ${VECTORS[format]}u];
  return halves(select(s.xy, s.zw, half == 1u));
}
fn wMinima(group: u32, block: u32, half: u32) -> vec4<f32> {
  let m = w[(group * n.blocks + block) * ${VECTORS[format]}u + 1u];
  return halves(select(m.xy, m.zw, half == 1u));
}`;

export const blocksOf = (columns: number): number => Math.ceil(columns / 32);

/** Bytes of a group of eight rows of a packed matrix. */
export const groupBytes = (format: Exclude<WeightFormat, 'float32'>, columns: number): number =>
  blocksOf(columns) * VECTORS[format] * 16;

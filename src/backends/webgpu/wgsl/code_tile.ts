/**
 * Products of many rows of x with int8 and int4 kernels, whose codes stay unchanged in workgroup memory; scales are
 * applied once per block of 32 columns. Variants of `mat_tile.ts` for devices that can:
 *
 * - `f16`: codes in float16, which is exact. They take half the memory, so a tile has twice the rows of W. Sums and x
 *   are float32.
 * - `dot`: codes in bytes, four of which are multiplied at once by those of x: see `digits.ts`. Sums of a block are
 *   exact.
 */
import {type PackedFormat, type WeightFormat} from '../../../weights/dtype';
import {type Program} from '../program';
import {DIGIT_VECTORS} from './digits';
import {TILE_ROWS, TILE_WEIGHTS} from './mat_tile';
import {codeReader, weightNumbers} from './weights';

export type CodeFormat = Exclude<PackedFormat, 'bfloat16'>;
export const CODE_FORMATS: readonly CodeFormat[] = ['int8', 'int4'];
export const hasCodes = (format: WeightFormat): format is CodeFormat => format === 'int8' || format === 'int4';

/** Which variant. */
export type CodeTile = 'f16' | 'dot';
/** Variants in use. A format without one has tiles in float32. */
export type CodeTiles = Partial<Record<CodeFormat, CodeTile>>;

/** Rows of W in a tile. */
export const CODE_TILE_WEIGHTS = {f16: 2 * TILE_WEIGHTS, dot: TILE_WEIGHTS} satisfies Record<CodeTile, number>;

const NUMBERS = {
  rows: 'u32',
  columns: 'u32',
  blocks: 'u32',
  first: 'u32',
  count: 'u32',
  across: 'u32',
  ...weightNumbers('w'),
} as const;

/** The position of a workgroup in y, and the code that all blocks share. @param quads quads of weights per invocation */
const frame = (weights: number, quads: number, block: string) => `
  let firstGroup = (group % n.across) * ${weights / 8}u;
  let first = (group / n.across) * ${TILE_ROWS}u;
  if (first >= n.count) { return; }
  let rowQuad = lane & 7u;
  let weightQuad = ${quads}u * (lane >> 3u);
  var sums = array<vec4<f32>, ${4 * quads}>();
  for (var block = 0u; block < n.blocks; block++) {${block}
    workgroupBarrier();
  }
  for (var r = 0u; r < ${4 * quads}u; r++) {
    let weight = 8u * firstGroup + 4u * weightQuad + r;
    for (var m = 0u; m < 4u; m++) {
      let row = first + 4u * rowQuad + m;
      if (row < n.count && weight < n.wRows) { y[row * n.rows + n.first + weight] = sums[r][m]; }
    }
  }`;

/** Reads the codes of four rows and eight columns, and their scales, for the first `lanes` invocations. */
const readCodes = (lanes: number, minima: boolean, store: string) => `
    if (lane < ${lanes}u) {
      let unit = firstGroup + (lane >> 3u);
      let half = lane & 1u;
      let t = (lane >> 1u) & 3u;
      let quad = 2u * (lane >> 3u) + half;
      let known = 8u * unit < n.wRows;
      var codes = array<vec4<u32>, 2>();
      if (known) { codes = wCodes(unit, block, half, t); }
      if (t == 0u) {
        scales[quad] = vec4<f32>();
        ${minima ? 'minima[quad] = vec4<f32>();' : ''}
        if (known) {
          scales[quad] = wScales(unit, block, half);
          ${minima ? 'minima[quad] = wMinima(unit, block, half);' : ''}
        }
      }${store}
    }`;

const scaleMemory = (quads: number, minima: boolean) => `
var<workgroup> scales: array<vec4<f32>, ${quads}>;
${minima ? `var<workgroup> minima: array<vec4<f32>, ${quads}>;` : ''}`;

/** x (count, columns) · Wᵀ → y (count, rows) with codes in float16. */
const halfTile = (format: CodeFormat): Program => {
  const minima = format === 'int4';
  return {
    name: `mat_tile ${format} f16`,
    size: 128,
    halves: true,
    reads: {x: 'array<f32>', w: 'array<vec4<u32>>'},
    writes: {y: 'array<f32>'},
    numbers: NUMBERS,
    declarations: `${codeReader(format)}
var<workgroup> xs: array<f32, 1024>;
var<workgroup> ws: array<vec4<f16>, 1024>;${scaleMemory(32, minima)}
`,
    body: frame(
      CODE_TILE_WEIGHTS.f16,
      2,
      `
    // Each invocation reads eight columns of one row of x.
    let row = first + (lane >> 2u);
    for (var i = 0u; i < 8u; i++) {
      let k = 8u * (lane & 3u) + i;
      let column = 32u * block + k;
      var value = 0.0;
      if (row < n.count && column < n.columns) { value = x[row * n.columns + column]; }
      xs[32u * k + (lane >> 2u)] = value;
    }${readCodes(
      128,
      minima,
      `
      for (var i = 0u; i < 8u; i++) {
        let word = bitcast<vec4<i32>>(codes[i >> 2u] << vec4<u32>(24u - 8u * (i & 3u)));
        ws[32u * (8u * t + i) + quad] = vec4<f16>(word >> vec4<u32>(24u));
      }`,
    )}
    workgroupBarrier();
    var own = array<vec4<f32>, 8>();
    ${minima ? 'var total = vec4<f32>();' : ''}
    for (var k = 0u; k < 32u; k++) {
      let at = 32u * k + 4u * rowQuad;
      let a = vec4<f32>(xs[at], xs[at + 1u], xs[at + 2u], xs[at + 3u]);
      let b = vec4<f32>(ws[32u * k + weightQuad]);
      let c = vec4<f32>(ws[32u * k + weightQuad + 1u]);
      ${minima ? 'total += a;' : ''}
      own[0] += a * b.x;
      own[1] += a * b.y;
      own[2] += a * b.z;
      own[3] += a * b.w;
      own[4] += a * c.x;
      own[5] += a * c.y;
      own[6] += a * c.z;
      own[7] += a * c.w;
    }
    for (var r = 0u; r < 8u; r++) {
      let quad = weightQuad + (r >> 2u);
      sums[r] += own[r] * scales[quad][r & 3u]${minima ? ' + total * minima[quad][r & 3u]' : ''};
    }`,
    ),
  };
};

/** Vectors of four rows of x and a block in workgroup memory: one more, so that neighbours lie in different banks. */
const STRIDE = DIGIT_VECTORS + 1;

/** The same for x as digits, with codes in bytes. */
const dotTile = (format: CodeFormat): Program => {
  const minima = format === 'int4';
  return {
    name: `mat_tile ${format} dot`,
    size: 128,
    packedDots: true,
    reads: {x: 'array<vec4<u32>>', w: 'array<vec4<u32>>'},
    writes: {y: 'array<f32>'},
    numbers: NUMBERS,
    declarations: `${codeReader(format)}
var<workgroup> xs: array<vec4<u32>, ${8 * STRIDE}>;
var<workgroup> ws: array<vec4<u32>, 128>;${scaleMemory(16, minima)}
fn dots(a: vec4<u32>, b: u32) -> vec4<i32> {
  return vec4<i32>(dot4I8Packed(a.x, b), dot4I8Packed(a.y, b), dot4I8Packed(a.z, b), dot4I8Packed(a.w, b));
}
`,
    body: frame(
      CODE_TILE_WEIGHTS.dot,
      1,
      `${readCodes(
        64,
        minima,
        `
      for (var i = 0u; i < 2u; i++) { ws[16u * (2u * t + i) + quad] = codes[i]; }`,
      )} else {
      // The other invocations read x.
      for (var i = lane - 64u; i < ${8 * DIGIT_VECTORS}u; i += 64u) {
        let quad = i / ${DIGIT_VECTORS}u;
        let at = i % ${DIGIT_VECTORS}u;
        var own = vec4<u32>();
        if (first + 4u * quad < n.count) {
          own = x[((first / 4u + quad) * n.blocks + block) * ${DIGIT_VECTORS}u + at];
        }
        xs[${STRIDE}u * quad + at] = own;
      }
    }
    workgroupBarrier();
    var high = array<vec4<i32>, 4>();
    var middle = array<vec4<i32>, 4>();
    var low = array<vec4<i32>, 4>();
    let at = ${STRIDE}u * rowQuad;
    for (var j = 0u; j < 8u; j++) {
      let codes = ws[16u * j + weightQuad];
      let a = xs[at + 3u * j + 2u];
      let b = xs[at + 3u * j + 3u];
      let c = xs[at + 3u * j + 4u];
      for (var r = 0u; r < 4u; r++) {
        high[r] += dots(a, codes[r]);
        middle[r] += dots(b, codes[r]);
        low[r] += dots(c, codes[r]);
      }
    }
    let scale = bitcast<vec4<f32>>(xs[at]);
    ${minima ? 'let total = bitcast<vec4<f32>>(xs[at + 1u]);' : ''}
    for (var r = 0u; r < 4u; r++) {
      let own = vec4<f32>(256 * high[r] + middle[r]) * 256.0 + vec4<f32>(low[r]);
      sums[r] += (own * scales[weightQuad][r]${minima ? ' + total * minima[weightQuad][r]' : ''}) * scale;
    }`,
    ),
  };
};

/** x (count, columns) · Wᵀ → y (count, rows), for a part of W whose first row is `first`. x is digits for `dot`. */
export const codeTile = (format: CodeFormat, variant: CodeTile): Program =>
  variant === 'f16' ? halfTile(format) : dotTile(format);

/** Products of many rows of x with dense kernels: tiles of 32 rows of x and 64 rows, or columns, of W. */
import {type WeightFormat} from '../../../weights/dtype';
import {type Program} from '../program';
import {weightCode, weightNumbers, weightType} from './weights';

/** Rows of x in a tile. */
export const TILE_ROWS = 32;
/** Rows of W in a tile; of the transposed product, columns. */
export const TILE_WEIGHTS = 64;

/** 4 × 4 sums for each of 128 invocations: `a` is for four rows of x, `b` for four of W. */
const declarations = (format: WeightFormat) => `${weightCode({w: format})}
var<workgroup> xs: array<f32, 1024>;
var<workgroup> ws: array<vec4<f32>, 512>;
`;

const MULTIPLY = `
    workgroupBarrier();
    for (var k = 0u; k < 32u; k++) {
      let at = 32u * k + 4u * (lane & 7u);
      let a = vec4<f32>(xs[at], xs[at + 1u], xs[at + 2u], xs[at + 3u]);
      let b = ws[16u * k + (lane >> 3u)];
      sums[0] += a * b.x;
      sums[1] += a * b.y;
      sums[2] += a * b.z;
      sums[3] += a * b.w;
    }
    workgroupBarrier();`;

/** x (count, columns) · Wᵀ → y (count, rows), for a part of W whose first row is `first`. */
export const matTile = (format: WeightFormat): Program => ({
  name: `mat_tile ${format}`,
  size: 128,
  reads: {x: 'array<f32>', w: weightType(format)},
  writes: {y: 'array<f32>'},
  numbers: {
    rows: 'u32',
    columns: 'u32',
    blocks: 'u32',
    first: 'u32',
    count: 'u32',
    across: 'u32',
    ...weightNumbers('w'),
  },
  declarations: declarations(format),
  body: `
  let firstGroup = (group % n.across) * 8u;
  let first = (group / n.across) * 32u;
  if (first >= n.count) { return; }
  var sums = array<vec4<f32>, 4>();
  for (var block = 0u; block < n.blocks; block++) {
    // Each invocation reads eight columns of one row of x.
    let row = first + (lane >> 2u);
    for (var i = 0u; i < 8u; i++) {
      let k = 8u * (lane & 3u) + i;
      let column = 32u * block + k;
      var value = 0.0;
      if (row < n.count && column < n.columns) { value = x[row * n.columns + column]; }
      xs[32u * k + (lane >> 2u)] = value;
    }
    if (lane < 64u) {
      let unit = firstGroup + (lane >> 3u);
      let half = lane & 1u;
      let t = (lane >> 1u) & 3u;
      var values = array<vec4<f32>, 8>();
      if (8u * unit < n.wRows) { values = wColumns(unit, block, half, t); }
      for (var i = 0u; i < 8u; i++) { ws[16u * (8u * t + i) + 2u * (lane >> 3u) + half] = values[i]; }
    }${MULTIPLY}
  }
  for (var r = 0u; r < 4u; r++) {
    let weight = 8u * firstGroup + 4u * (lane >> 3u) + r;
    for (var m = 0u; m < 4u; m++) {
      let row = first + 4u * (lane & 7u) + m;
      if (row < n.count && weight < n.wRows) { y[row * n.rows + n.first + weight] = sums[r][m]; }
    }
  }`,
});

/**
 * x (count, rows) · W → y (count, columns), for a part of W whose first row is `first`; later parts add to what the
 * first has stored.
 */
export const matTileTransposed = (format: WeightFormat): Program => ({
  name: `mat_tile_transposed ${format}`,
  size: 128,
  reads: {x: 'array<f32>', w: weightType(format)},
  writes: {y: 'array<f32>'},
  numbers: {
    rows: 'u32',
    columns: 'u32',
    blocks: 'u32',
    first: 'u32',
    count: 'u32',
    across: 'u32',
    ...weightNumbers('w'),
  },
  declarations: declarations(format),
  body: `
  let firstBlock = (group % n.across) * 2u;
  let first = (group / n.across) * 32u;
  if (first >= n.count) { return; }
  var sums = array<vec4<f32>, 4>();
  for (var firstGroup = 0u; 8u * firstGroup < n.wRows; firstGroup += 4u) {
    let row = first + (lane >> 2u);
    for (var i = 0u; i < 8u; i++) {
      let k = 8u * (lane & 3u) + i;
      let weight = 8u * firstGroup + k;
      var value = 0.0;
      if (row < n.count && weight < n.wRows) { value = x[row * n.rows + n.first + weight]; }
      xs[32u * k + (lane >> 2u)] = value;
    }
    if (lane < 64u) {
      let unit = firstGroup + (lane >> 4u);
      let half = (lane >> 3u) & 1u;
      let block = firstBlock + ((lane >> 2u) & 1u);
      let t = lane & 3u;
      var values = array<vec4<f32>, 8>();
      if (8u * unit < n.wRows && block < n.blocks) {
        values = wColumns(unit, block, half, t);
      }
      for (var r = 0u; r < 4u; r++) {
        let at = 16u * (8u * (lane >> 4u) + 4u * half + r) + 8u * ((lane >> 2u) & 1u) + 2u * t;
        ws[at] = vec4<f32>(values[0][r], values[1][r], values[2][r], values[3][r]);
        ws[at + 1u] = vec4<f32>(values[4][r], values[5][r], values[6][r], values[7][r]);
      }
    }${MULTIPLY}
  }
  for (var c = 0u; c < 4u; c++) {
    let column = 32u * firstBlock + 4u * (lane >> 3u) + c;
    for (var m = 0u; m < 4u; m++) {
      let row = first + 4u * (lane & 7u) + m;
      if (row >= n.count || column >= n.columns) { continue; }
      let at = row * n.columns + column;
      y[at] = select(y[at], 0.0, n.first == 0u) + sums[c][m];
    }
  }`,
});

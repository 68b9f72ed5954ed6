/**
 * Products of a few rows of x with dense kernels: one, or several of the same x. Each invocation takes four rows of W and
 * every `splits`-th block of columns; the sums of a workgroup are added in shared memory, always in the same order. On
 * devices that can, neighbouring invocations exchange their sums first, without waiting for the whole workgroup.
 */
import {type WeightFormat} from '../../../weights/dtype';
import {type Program} from '../program';
import {GELU} from './elementwise';
import {weightCode, weightNumbers, weightType} from './weights';

/** Maximum number of rows of x at a time. */
export const MAT_VEC_ROWS = 8;

/** Which variant suits a product. */
export interface MatVecVariant {
  /** Formats of the kernels. */
  formats: readonly WeightFormat[];
  /** Rows of x at a time: 1, 2, 4 or 8. */
  width: number;
  /** Invocations that share a row of W: a power of two, at most 32. */
  splits: number;
  /** Whether the columns are whole blocks. */
  whole: boolean;
  /** Invocations that exchange sums directly: a power of two, or 0. */
  lanes?: number;
  /** Invocations of a workgroup: 64, or 256. More of them share the work before the product. */
  size?: 64 | 256;
  /** Whether x is normed first, with the scale of an RMS norm. */
  normed?: boolean;
  /** A branch that is added to x before it is normed: see {@link join}. The columns are whole blocks. */
  joined?: {
    columns: number;
    /** Whether the branch is normed, too. */
    post: boolean;
  };
  /** Whether y is gelu(x · W0ᵀ) · (x · W1ᵀ), instead of the products side by side. */
  gated?: boolean;
}

/** Groups of eight rows of W that a workgroup multiplies. */
export const matVecGroups = ({splits, size = 64}: Pick<MatVecVariant, 'splits' | 'size'>): number =>
  size / (2 * splits);

/** Bytes of workgroup memory of a joined product. */
export const joinedMemory = (width: number, columns: number, size: number): number =>
  4 * width * columns + 16 * width * size + 4 * size + 64;

const namesOf = (formats: readonly unknown[]) => formats.map((_, i) => `w${i}`);

/** One sum for each row of x, in `own`; the invocation with split 0 has the whole sum afterwards. */
const product = (name: string) => `
  {
    var own = array<vec4<f32>, WIDTH>();
    if (8u * unit < n.${name}Rows) {
      for (var block = split; block < n.blocks; block += SPLITS) {
        for (var t = 0u; t < 4u; t++) {
          let values = ${name}Columns(unit, block, half, t);
          for (var m = 0u; m < WIDTH; m++) {
            // Rows after the last one repeat it, and are not stored.
            let a = xAt(min(m, n.count - 1u), 32u * block + 8u * t);
            let b = xAt(min(m, n.count - 1u), 32u * block + 8u * t + 4u);
            own[m] += values[0] * a.x + values[1] * a.y + values[2] * a.z + values[3] * a.w;
            own[m] += values[4] * b.x + values[5] * b.y + values[6] * b.z + values[7] * b.w;
          }
        }
      }
    }
    for (var m = 0u; m < WIDTH; m++) { sums[m * SIZE + lane] = exchanged(own[m]); }
    for (var step = SPLITS / 2u; step > 0u && 2u * step >= LANES; step /= 2u) {
      workgroupBarrier();
      if (split < step) {
        for (var m = 0u; m < WIDTH; m++) { sums[m * SIZE + lane] += sums[m * SIZE + lane + 2u * step]; }
      }
    }
  }`;

/** The sum over the splits of `lanes` neighbouring invocations, which each of them has afterwards. */
function exchanged(lanes: number, splits: number): string {
  const masks: number[] = [];
  for (let mask = 2; mask < Math.min(lanes, 2 * splits); mask *= 2) masks.push(mask);
  const steps = masks.map(mask => `  sum += subgroupShuffleXor(sum, ${mask}u);\n`).join('');
  return `fn exchanged(own: vec4<f32>) -> vec4<f32> {
  var sum = own;
${steps}  return sum;
}`;
}

/** Stores what `value(m)` gives for four rows, beginning at row `first` of y. */
const store = (name: string, value: string, first: string) => `
    if (split == 0u && 8u * unit < n.${name}Rows) {
      for (var m = 0u; m < min(WIDTH, n.count); m++) {
        let result = ${value};
        for (var r = 0u; r < 4u; r++) {
          let row = 8u * unit + 4u * half + r;
          if (row < n.${name}Rows) { y[m * n.rows + ${first} + row] = result[r]; }
        }
      }
    }`;

function nameOf({formats, width, splits, whole, lanes, size, normed, joined, gated}: MatVecVariant): string {
  const parts = [
    ...(whole ? [] : ['odd']),
    ...(normed ? ['normed'] : []),
    ...(joined ? [`joined ${joined.columns}${joined.post ? ' post' : ''}`] : []),
    ...(gated ? ['gated'] : []),
    ...(lanes ? [`lanes ${lanes}`] : []),
    ...(size === 256 ? ['wide'] : []),
  ];
  return ['mat_vec', ...formats, width, splits, ...parts].join(' ');
}

/** The inverse root mean square of each row of x, of the whole workgroup. */
const INVERSES = `
  for (var m = 0u; m < min(WIDTH, n.count); m++) {
    var square = 0.0;
    for (var i = lane; i < n.columns; i += SIZE) { let value = xNumber(m, i); square += value * value; }
    squares[lane] = square;
    for (var step = SIZE / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      if (lane < step) { squares[lane] += squares[lane + step]; }
    }
    workgroupBarrier();
    if (lane == 0u) { inverses[m] = inverseSqrt(squares[0] / f32(n.columns) + n.epsilon); }
    workgroupBarrier();
  }`;

/** The sum of a value over the workgroup, with three barriers. All invocations must call it. */
const TOTAL = `
const PARTS = SIZE / 16u;
var<workgroup> each: array<f32, SIZE>;
var<workgroup> some: array<f32, PARTS>;
fn total(own: f32, lane: u32) -> f32 {
  workgroupBarrier();
  each[lane] = own;
  workgroupBarrier();
  if (lane < PARTS) {
    var sum = 0.0;
    for (var i = 0u; i < 16u; i++) { sum += each[i * PARTS + lane]; }
    some[lane] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < PARTS; i++) { sum += some[i]; }
  return sum;
}`;

/**
 * The steps between two branches of a block, computed by every workgroup: x + branch, where the branch is normed first
 * if `post`. The first workgroup stores it in y, after the results, for the next join; all norm it for the product.
 */
const join = ({columns, post}: NonNullable<MatVecVariant['joined']>) => `
  for (var m = 0u; m < min(WIDTH, n.count); m++) {
    let row = m * ${columns / 4}u;${
      post
        ? `
    var square = 0.0;
    for (var i = lane; i < ${columns / 4}u; i += SIZE) { square += dot(branch[row + i], branch[row + i]); }
    let inverse = inverseSqrt(total(square, lane) / ${columns}.0 + n.epsilon);`
        : ''
    }
    var after = 0.0;
    for (var i = lane; i < ${columns / 4}u; i += SIZE) {
      let value = x[n.xFirst + row + i] + branch[row + i]${post ? ' * inverse * (1.0 + postScale[i])' : ''};
      staged[row + i] = value;
      after += dot(value, value);
      if (group == 0u) {
        for (var c = 0u; c < 4u; c++) { y[n.yFirst + 4u * (row + i) + c] = value[c]; }
      }
    }
    let inverseAfter = inverseSqrt(total(after, lane) / ${columns}.0 + n.epsilon);
    for (var i = lane; i < ${columns / 4}u; i += SIZE) { staged[row + i] *= inverseAfter * (1.0 + scale[i]); }
  }
  workgroupBarrier();`;

/**
 * x (count, columns) · Wᵀ → y (count, rows). With several kernels, y has the rows of all, one after another; `first` is
 * added to them.
 */
export function matVec(variant: MatVecVariant): Program {
  const {formats, width, splits, whole, lanes = 0, size = 64, normed = false, joined, gated = false} = variant;
  const names = namesOf(formats);
  const per = matVecGroups({splits, size});
  const at = (vector: boolean) =>
    vector
      ? 'x[(row * n.columns + column) >> 2u]'
      : 'vec4<f32>(xNumber(row, column), xNumber(row, column + 1u), xNumber(row, column + 2u), xNumber(row, column + 3u))';
  const staged = joined && `staged[row * ${joined.columns / 4}u + (column >> 2u)]`;
  const scaled = normed ? ' * inverses[row] * (1.0 + scaleAt(column))' : '';
  const side = names
    .map((name, i) => {
      const first = ['n.first', ...names.slice(0, i).map(other => `n.${other}Rows`)].join(' + ');
      const condition = `group < begin + (n.${name}Rows + ${8 * per - 1}u) / ${8 * per}u`;
      return `
  ${i ? `begin += (n.w${i - 1}Rows + ${8 * per - 1}u) / ${8 * per}u;` : 'var begin = 0u;'}
  if (group >= begin && ${condition}) {
    let unit = (group - begin) * ${per}u + lane / (2u * SPLITS);${product(name)}${store(name, 'sums[m * SIZE + lane]', first)}
  }`;
    })
    .join('');
  const together = `
  let unit = group * ${per}u + lane / (2u * SPLITS);${product('w0')}
  workgroupBarrier();
  var gates = array<vec4<f32>, WIDTH>();
  for (var m = 0u; m < WIDTH; m++) { gates[m] = sums[m * SIZE + lane]; }
  workgroupBarrier();${product('w1')}${store(
    'w0',
    'vec4<f32>(gelu(gates[m].x), gelu(gates[m].y), gelu(gates[m].z), gelu(gates[m].w)) * sums[m * SIZE + lane]',
    'n.first',
  )}`;
  return {
    name: nameOf(variant),
    size,
    subgroups: lanes > 0,
    reads: {
      x: whole ? 'array<vec4<f32>>' : 'array<f32>',
      ...(normed ? {scale: 'array<f32>'} : {}),
      ...(joined ? {branch: 'array<vec4<f32>>'} : {}),
      ...(joined?.post ? {postScale: 'array<vec4<f32>>'} : {}),
      ...(joined ? {scale: 'array<vec4<f32>>'} : {}),
      ...Object.fromEntries(formats.map((format, i) => [`w${i}`, weightType(format)])),
    },
    writes: {y: 'array<f32>'},
    numbers: {
      rows: 'u32',
      columns: 'u32',
      blocks: 'u32',
      count: 'u32',
      first: 'u32',
      epsilon: 'f32',
      ...(joined ? {xFirst: 'u32', yFirst: 'u32'} : {}),
      ...Object.assign({}, ...names.map(weightNumbers)),
    },
    declarations: `${weightCode(Object.fromEntries(formats.map((format, i) => [`w${i}`, format])))}
const WIDTH = ${width}u;
const SPLITS = ${splits}u;
const LANES = ${lanes}u;
var<workgroup> sums: array<vec4<f32>, ${size * width}>;
${normed ? `var<workgroup> squares: array<f32, ${size}>;\nvar<workgroup> inverses: array<f32, ${width}>;` : ''}
${joined ? `var<workgroup> staged: array<vec4<f32>, ${(width * joined.columns) / 4}>;${TOTAL}` : ''}
${exchanged(lanes, splits)}
fn xNumber(row: u32, column: u32) -> f32 {
  if (column >= n.columns) { return 0.0; }
  let at = row * n.columns + column;
  return ${whole ? 'x[at >> 2u][at & 3u]' : 'x[at]'};
}
${
  normed
    ? `fn scaleAt(column: u32) -> vec4<f32> {
  let last = n.columns - 1u;
  return vec4<f32>(
    scale[min(column, last)], scale[min(column + 1u, last)], scale[min(column + 2u, last)], scale[min(column + 3u, last)],
  );
}`
    : ''
}
fn xAt(row: u32, column: u32) -> vec4<f32> { return ${joined ? staged : at(whole)}${scaled}; }
${gated ? GELU : ''}`,
    body: `
  let half = lane & 1u;
  let split = (lane >> 1u) % SPLITS;${normed ? INVERSES : ''}${joined ? join(joined) : ''}${gated ? together : side}`,
  };
}

/** RMS norms and layer norms, and their gradients, a workgroup for each row. */
import {type Program} from '../program';

const SIZE = 64;

/** The sum of a value over the workgroup. All invocations must call it. */
export const TOTAL = `
var<workgroup> parts: array<f32, SIZE>;
fn total(own: f32, lane: u32) -> f32 {
  workgroupBarrier();
  parts[lane] = own;
  for (var step = SIZE / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) { parts[lane] += parts[lane + step]; }
  }
  workgroupBarrier();
  return parts[0];
}`;

/** x (rows, columns) / sqrt(mean(x²) + epsilon) · (1 + scale) → y */
export const rmsNorm: Program = {
  name: 'rms_norm',
  size: SIZE,
  reads: {x: 'array<f32>', scale: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: {rows: 'u32', columns: 'u32', epsilon: 'f32'},
  declarations: TOTAL,
  body: `
  if (group >= n.rows) { return; }
  let first = group * n.columns;
  var square = 0.0;
  for (var i = lane; i < n.columns; i += SIZE) { square += x[first + i] * x[first + i]; }
  let inverse = inverseSqrt(total(square, lane) / f32(n.columns) + n.epsilon);
  for (var i = lane; i < n.columns; i += SIZE) { y[first + i] = x[first + i] * inverse * (1.0 + scale[i]); }`,
};

/**
 * The steps between two branches of a block: x + branch → y, where the branch is normed first if `post`; and with `pre`
 * also y normed for the next branch → next. x begins at index `xFirst`, and y at `yFirst`.
 */
export const residual = ({post, pre}: {post: boolean; pre: boolean}): Program => ({
  name: `residual${post ? ' post' : ''}${pre ? ' pre' : ''}`,
  size: SIZE,
  reads: {
    x: 'array<f32>',
    branch: 'array<f32>',
    ...(post ? {postScale: 'array<f32>'} : {}),
    ...(pre ? {preScale: 'array<f32>'} : {}),
  },
  writes: {y: 'array<f32>', ...(pre ? {next: 'array<f32>'} : {})},
  numbers: {rows: 'u32', columns: 'u32', epsilon: 'f32', xFirst: 'u32', yFirst: 'u32'},
  declarations: TOTAL,
  body: `
  if (group >= n.rows) { return; }
  let first = group * n.columns;
  ${
    post
      ? `var square = 0.0;
  for (var i = lane; i < n.columns; i += SIZE) { square += branch[first + i] * branch[first + i]; }
  let inverse = inverseSqrt(total(square, lane) / f32(n.columns) + n.epsilon);`
      : ''
  }
  ${pre ? 'var after = 0.0;' : ''}
  for (var i = lane; i < n.columns; i += SIZE) {
    let value = x[n.xFirst + first + i] + branch[first + i]${post ? ' * inverse * (1.0 + postScale[i])' : ''};
    y[n.yFirst + first + i] = value;
    ${pre ? 'after += value * value;' : ''}
  }
  ${
    pre
      ? `let inverseAfter = inverseSqrt(total(after, lane) / f32(n.columns) + n.epsilon);
  for (var i = lane; i < n.columns; i += SIZE) { next[first + i] = y[n.yFirst + first + i] * inverseAfter * (1.0 + preScale[i]); }`
      : ''
  }`,
});

const NORM_NUMBERS = {rows: 'u32', columns: 'u32', epsilon: 'f32'} as const;

/** `mean` and `inverse` of row `group`; of an RMS norm the mean is 0. */
const statistics = (centred: boolean) => `
  let first = group * n.columns;
  ${
    centred
      ? `var own = 0.0;
  for (var i = lane; i < n.columns; i += SIZE) { own += x[first + i]; }
  let mean = total(own, lane) / f32(n.columns);`
      : 'let mean = 0.0;'
  }
  var square = 0.0;
  for (var i = lane; i < n.columns; i += SIZE) { let d = x[first + i] - mean; square += d * d; }
  let inverse = inverseSqrt(total(square, lane) / f32(n.columns) + n.epsilon);`;

/** (x − mean) / sqrt(variance + epsilon) · gamma + beta → y, all (rows, columns) or (columns). */
export const layerNorm: Program = {
  name: 'layer_norm',
  size: SIZE,
  reads: {x: 'array<f32>', gamma: 'array<f32>', beta: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: NORM_NUMBERS,
  declarations: TOTAL,
  body: `
  if (group >= n.rows) { return; }${statistics(true)}
  for (var i = lane; i < n.columns; i += SIZE) { y[first + i] = (x[first + i] - mean) * inverse * gamma[i] + beta[i]; }`,
};

/** The gradient for x of a layer norm, or of an RMS norm, from dy (rows, columns) and the scale. */
export const normGradientX = ({centred}: {centred: boolean}): Program => ({
  name: `norm_gradient_x${centred ? ' centred' : ''}`,
  size: SIZE,
  reads: {dy: 'array<f32>', x: 'array<f32>', scale: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: NORM_NUMBERS,
  declarations: TOTAL,
  body: `
  if (group >= n.rows) { return; }${statistics(centred)}
  var shiftSum = 0.0;
  var stretchSum = 0.0;
  for (var i = lane; i < n.columns; i += SIZE) {
    let d = dy[first + i] * (scale[i]${centred ? '' : ' + 1.0'});
    shiftSum += d;
    stretchSum += d * (x[first + i] - mean) * inverse;
  }
  let shift = ${centred ? 'total(shiftSum, lane) / f32(n.columns)' : '0.0'};
  let stretch = total(stretchSum, lane) / f32(n.columns);
  for (var i = lane; i < n.columns; i += SIZE) {
    let d = dy[first + i] * (scale[i]${centred ? '' : ' + 1.0'});
    y[first + i] = inverse * (d - shift - (x[first + i] - mean) * inverse * stretch);
  }`,
});

/** Mean and inverse deviation of each row of x → y (rows, 2). Of an RMS norm the mean is 0. */
export const normStatistics = ({centred}: {centred: boolean}): Program => ({
  name: `norm_statistics${centred ? ' centred' : ''}`,
  size: SIZE,
  reads: {x: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: NORM_NUMBERS,
  declarations: TOTAL,
  body: `
  if (group >= n.rows) { return; }${statistics(centred)}
  if (lane == 0u) {
    y[2u * group] = mean;
    y[2u * group + 1u] = inverse;
  }`,
});

/** The gradient for the scale: dy · normed x, summed over rows → y (columns). An invocation for each column. */
export const normGradientScale: Program = {
  name: 'norm_gradient_scale',
  size: SIZE,
  reads: {dy: 'array<f32>', x: 'array<f32>', statistics: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: {rows: 'u32', columns: 'u32'},
  body: `
  let column = group * SIZE + lane;
  if (column >= n.columns) { return; }
  var sum = 0.0;
  for (var row = 0u; row < n.rows; row++) {
    let at = row * n.columns + column;
    sum += dy[at] * (x[at] - statistics[2u * row]) * statistics[2u * row + 1u];
  }
  y[column] = sum;`,
};

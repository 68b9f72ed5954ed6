/** RMS norms, a workgroup for each row. */
import {type Program} from '../program';

const SIZE = 64;

/** The sum over the workgroup of what each invocation has. All must call it. */
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
 * What lies between two branches of a block: x + branch → y, where the branch is normed first if `post`; and with `pre`
 * also y normed for the next branch → next.
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
  numbers: {rows: 'u32', columns: 'u32', epsilon: 'f32'},
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
    let value = x[first + i] + branch[first + i]${post ? ' * inverse * (1.0 + postScale[i])' : ''};
    y[first + i] = value;
    ${pre ? 'after += value * value;' : ''}
  }
  ${
    pre
      ? `let inverseAfter = inverseSqrt(total(after, lane) / f32(n.columns) + n.epsilon);
  for (var i = lane; i < n.columns; i += SIZE) { next[first + i] = y[first + i] * inverseAfter * (1.0 + preScale[i]); }`
      : ''
  }`,
});

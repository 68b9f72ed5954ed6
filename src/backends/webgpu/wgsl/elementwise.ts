/** Programs with one invocation for each value or pair of values. */
import {type Program} from '../program';

/** On some GPUs `tanh` is NaN for large arguments, where it is ±1 long before. */
export const TANH = `
fn boundedTanh(value: f32) -> f32 { return tanh(clamp(value, -15.0, 15.0)); }`;

/** GELU in its tanh form. */
export const GELU = `${TANH}
fn gelu(value: f32) -> f32 {
  return 0.5 * value * (1.0 + boundedTanh(0.7978845608028654 * (value + 0.044715 * value * value * value)));
}`;

/** gelu(x) → y */
export const gelu: Program = {
  name: 'gelu',
  size: 64,
  reads: {x: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: {count: 'u32'},
  declarations: GELU,
  body: `
  let index = group * SIZE + lane;
  if (index < n.count) { y[index] = gelu(x[index]); }`,
};

/** gelu(gate) · value → y */
export const gatedGelu: Program = {
  name: 'gated_gelu',
  size: 64,
  reads: {gate: 'array<f32>', value: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: {count: 'u32'},
  declarations: GELU,
  body: `
  let index = group * SIZE + lane;
  if (index < n.count) { y[index] = gelu(gate[index]) * value[index]; }`,
};

/** The gradient of gelu(x), times the gated value if there is one: dy → y. */
export const geluGradient = ({gated}: {gated: boolean}): Program => ({
  name: `gelu_gradient${gated ? ' gated' : ''}`,
  size: 64,
  reads: {dy: 'array<f32>', x: 'array<f32>', ...(gated ? {value: 'array<f32>'} : {})},
  writes: {y: 'array<f32>'},
  numbers: {count: 'u32'},
  declarations: TANH,
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  let a = x[index];
  let t = boundedTanh(0.7978845608028654 * (a + 0.044715 * a * a * a));
  let slope = 0.7978845608028654 * (1.0 + 0.134145 * a * a);
  // Where t is ±1, the slope may be infinite.
  let curved = select(a * (1.0 - t * t) * slope, 0.0, abs(t) == 1.0);
  y[index] = dy[index]${gated ? ' * value[index]' : ''} * 0.5 * (1.0 + t + curved);`,
});

/** Post-processing of a product, in place: y (rows, columns) + bias, then its GELU, or another tensor added to it. */
export const finishDense = ({after}: {after: 'gelu' | 'add' | 'nothing'}): Program => ({
  name: `finish_dense ${after}`,
  size: 64,
  reads: {bias: 'array<f32>', ...(after === 'add' ? {other: 'array<f32>'} : {})},
  writes: {y: 'array<f32>'},
  numbers: {count: 'u32', columns: 'u32'},
  declarations: after === 'gelu' ? GELU : '',
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  let value = y[index] + bias[index % n.columns];
  y[index] = ${{gelu: 'gelu(value)', add: 'value + other[index]', nothing: 'value'}[after]};`,
});

/** Rotates pairs of features: x (batch, length, heads, 2 · half), tables (1 or batch, length, half) → y. */
export const rotary: Program = {
  name: 'rotary',
  size: 64,
  reads: {x: 'array<f32>', cosines: 'array<f32>', sines: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: {pairs: 'u32', half: 'u32', heads: 'u32', angles: 'u32', direction: 'f32'},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.pairs) { return; }
  let i = index % n.half;
  let vector = index / n.half;
  let angle = ((vector / n.heads) * n.half + i) % n.angles;
  let at = vector * 2u * n.half + i;
  let a = x[at];
  let b = x[at + n.half];
  let c = cosines[angle];
  let s = sines[angle] * n.direction;
  y[at] = a * c - b * s;
  y[at + n.half] = b * c + a * s;`,
};

/** Writes new tokens (batch, length, width) into slots (batch, capacity, width): position p is in slot p mod capacity. */
export const cacheUpdate: Program = {
  name: 'cache_update',
  size: 64,
  // Words, whatever they hold.
  reads: {tokens: 'array<u32>', rows: 'array<i32>'},
  writes: {slots: 'array<u32>'},
  numbers: {count: 'u32', length: 'u32', width: 'u32', capacity: 'u32'},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  let i = index % n.width;
  let t = (index / n.width) % n.length;
  let row = index / (n.width * n.length);
  // Start and number of tokens of the row. If there are more than slots, the last ones are kept.
  let tokensOfRow = u32(rows[2u * row + 1u]);
  if (t >= tokensOfRow || t + n.capacity < tokensOfRow) { return; }
  let slot = (u32(rows[2u * row]) + t) % n.capacity;
  slots[(row * n.capacity + slot) * n.width + i] = tokens[index];`,
};

/** Rows of a table of float32, times a factor → y (count, width); NaN for ids out of range. */
export const embedding: Program = {
  name: 'embedding',
  size: 64,
  reads: {table: 'array<f32>', ids: 'array<i32>'},
  writes: {y: 'array<u32>'},
  numbers: {count: 'u32', width: 'u32', rows: 'u32', factor: 'f32'},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  let id = bitcast<u32>(ids[index / n.width]);
  let value = table[min(id, n.rows - 1u) * n.width + index % n.width] * n.factor;
  y[index] = select(0x7fc00000u, bitcast<u32>(value), id < n.rows);`,
};

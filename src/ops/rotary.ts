/**
 * Rotary position embedding, https://arxiv.org/abs/2104.09864. Each feature of the first half is rotated together with
 * the feature at the same index in the second half.
 */
import * as tf from '@tensorflow/tfjs';
import {type Op, runGradient, runOp} from './op';

type RotaryInputs = {x: tf.Tensor; cos: tf.Tensor; sin: tf.Tensor};

/** x, cos and sin as in `rotary`; `direction` −1 rotates back, which is the gradient. */
function rotate({x, cos, sin}: RotaryInputs, direction: 1 | -1): tf.Tensor {
  return tf.tidy(() => {
    const [a, b] = tf.split(x, 2, -1) as [tf.Tensor, tf.Tensor]; // (B, T, N, H/2) each
    const s = direction === 1 ? sin : tf.neg(sin);
    return tf.concat([tf.sub(tf.mul(a, cos), tf.mul(b, s)), tf.add(tf.mul(b, cos), tf.mul(a, s))], -1);
  });
}

export const rotaryOp: Op<RotaryInputs, Record<string, never>> = {
  name: 'Gemma3Rotary',
  reference: inputs => rotate(inputs, 1),
  gradient: (dy, {cos, sin}) => ({x: () => runGradient(rotaryGradientOp, {x: dy, cos, sin}, {})}),
  reads: {x: ['cos', 'sin']},
};

/** The gradient: the inverse rotation. */
export const rotaryGradientOp: Op<RotaryInputs, Record<string, never>> = {
  name: 'Gemma3RotaryGradient',
  reference: inputs => rotate(inputs, -1),
};

/** x: (B, T, N, H); cos, sin: (1 or B, T, 1, H/2) → (B, T, N, H). */
export function rotary(x: tf.Tensor4D, cos: tf.Tensor4D, sin: tf.Tensor4D): tf.Tensor4D {
  return runOp(rotaryOp, {x, cos, sin}, {}) as tf.Tensor4D;
}

/** Angle per position by which each pair of features is rotated: `1 / (wavelength^(2i/H) · factor)`. */
export function inverseFrequencies(headDim: number, wavelength: number, scalingFactor: number): Float64Array {
  return Float64Array.from({length: headDim / 2}, (_, i) => 1 / (wavelength ** ((2 * i) / headDim) * scalingFactor));
}

const frequenciesOf = new Map<string, Float64Array>();

/** Cached: a model has two sets of frequencies, and needs them for every token. */
function knownFrequencies(headDim: number, wavelength: number, scalingFactor: number): Float64Array {
  const key = `${headDim} ${wavelength} ${scalingFactor}`;
  let frequencies = frequenciesOf.get(key);
  if (!frequencies) frequenciesOf.set(key, (frequencies = inverseFrequencies(headDim, wavelength, scalingFactor)));
  return frequencies;
}

interface Tables {
  cos: Float32Array;
  sin: Float32Array;
}

const tables = new Map<string, Tables>();
const MAX_TABLES = 16;
/** Tables of this many positions, from a multiple of it on: a prompt goes through a layer in pieces of any size. */
const RUN = 32;
const runs = new Map<string, Tables>();
/** About 8 MB for heads of width 256. */
const MAX_RUNS = 256;

/** The value for a key, or a new one. If there are more than `most` values, the oldest is dropped. */
function remembered(map: Map<string, Tables>, most: number, key: string, create: () => Tables): Tables {
  const known = map.get(key);
  if (known) return known;
  const created = create();
  if (map.size >= most) map.delete(map.keys().next().value!);
  map.set(key, created);
  return created;
}

/** Writes the tables of `length` positions from `start` on, from index `at` on. */
function fill({cos, sin}: Tables, at: number, start: number, length: number, frequencies: Float64Array): void {
  for (let t = 0; t < length; t++) {
    for (let h = 0; h < frequencies.length; h++, at++) {
      const angle = (start + t) * frequencies[h]!;
      cos[at] = Math.cos(angle);
      sin[at] = Math.sin(angle);
    }
  }
}

/** Like `fill`, for many positions: copies them from runs that are computed only once. */
function copyRuns(
  to: Tables,
  at: number,
  start: number,
  length: number,
  name: string,
  frequencies: Float64Array,
): void {
  const half = frequencies.length;
  for (let position = start; position < start + length;) {
    const first = Math.floor(position / RUN) * RUN;
    const run = remembered(runs, MAX_RUNS, `${first} ${name}`, () => {
      const created = {cos: new Float32Array(RUN * half), sin: new Float32Array(RUN * half)};
      fill(created, 0, first, RUN, frequencies);
      return created;
    });
    const end = Math.min(first + RUN, start + length);
    const part = [(position - first) * half, (end - first) * half] as const;
    to.cos.set(run.cos.subarray(...part), at);
    to.sin.set(run.sin.subarray(...part), at);
    at += (end - position) * half;
    position = end;
  }
}

/**
 * Cosines and sines for `length` positions beginning at each start, one start per row. Computed on the host in double
 * precision: float32 angles are wrong in the fourth digit at position 10,000, and GPUs compute sines only to 1e-4.
 * Layout of both: (starts, length, H/2). The arrays are shared and must not be changed.
 */
export function hostRotaryTables(
  starts: readonly number[],
  length: number,
  headDim: number,
  wavelength: number,
  scalingFactor: number,
): Tables {
  const name = `${headDim} ${wavelength} ${scalingFactor}`;
  // All layers of the same kind request the same table, one after another.
  return remembered(tables, MAX_TABLES, `${starts.join()} ${length} ${name}`, () => {
    const frequencies = knownFrequencies(headDim, wavelength, scalingFactor);
    const values = length * frequencies.length;
    const created = {cos: new Float32Array(starts.length * values), sin: new Float32Array(starts.length * values)};
    for (const [row, start] of starts.entries()) {
      const many = length > 1 && Number.isInteger(start);
      if (many) copyRuns(created, row * values, start, length, name, frequencies);
      else fill(created, row * values, start, length, frequencies);
    }
    return created;
  });
}

const originals = new WeakMap<object, Float32Array>();

/** The table that values are a copy of: a backend may keep what it makes of it. */
export const originalTable = (values: object): Float32Array | undefined => originals.get(values);

function copyOf(table: Float32Array): Float32Array {
  const copy = table.slice();
  originals.set(copy, table);
  return copy;
}

/** The tables of {@link hostRotaryTables} as tensors (starts, length, 1, H/2). */
export function rotaryTables(
  starts: readonly number[],
  length: number,
  headDim: number,
  wavelength: number,
  scalingFactor: number,
): {cos: tf.Tensor4D; sin: tf.Tensor4D} {
  const {cos, sin} = hostRotaryTables(starts, length, headDim, wavelength, scalingFactor);
  const shape: [number, number, number, number] = [starts.length, length, 1, headDim / 2];
  // Copies: a backend may keep the array it receives, and free it with the tensor.
  return {cos: tf.tensor4d(copyOf(cos), shape), sin: tf.tensor4d(copyOf(sin), shape)};
}

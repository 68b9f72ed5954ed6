/** Scores of a few queries. Building panels of keys for one or two uses would cost more than the products. */
import {EDGE, SCRATCH_BYTES} from '../numbers';
import {fourOf, oneOf} from './bfloat16';
import {scratch} from './threads';
import {fma, zero} from './vector';

/**
 * scores[r][j] = queries[r] · keys[j] for at most four queries of `width` values. Keys are numbers of type T, `step`
 * bytes apart; bfloat16 is u16 here. Rows of scores are `scoreStep` bytes apart.
 *
 * Two vectors side by side: engines with 256-bit vectors merge them (see `tile.ts`).
 */
export function dotKeys<T>(
  queries: usize,
  rows: i32,
  width: i32,
  keys: usize,
  step: usize,
  count: i32,
  scores: usize,
  scoreStep: usize,
): void {
  const row = (<usize>width) << 2;
  // Missing queries repeat the first.
  const q1 = rows > 1 ? queries + row : queries;
  const q2 = rows > 2 ? q1 + row : queries;
  const q3 = rows > 3 ? q2 + row : queries;
  const body = (<usize>(width & ~7)) << 2;
  const sums = scratch() + SCRATCH_BYTES - EDGE;
  // One key at a time. Two at a time would load the queries half as often, but the loop waits for the keys, and memory
  // is read fastest as one stream.
  for (let j = 0; j < count; j++, keys += step, scores += 4) {
    let a0 = zero();
    let b0 = a0;
    let a1 = a0;
    let b1 = a0;
    let a2 = a0;
    let b2 = a0;
    let a3 = a0;
    let b3 = a0;
    let at: usize = 0;
    let key = keys;
    for (; at < body; at += 32, key += 8 * sizeof<T>()) {
      const a = fourOf<T>(key);
      const b = fourOf<T>(key + 4 * sizeof<T>());
      a0 = fma(a, v128.load(queries + at), a0);
      b0 = fma(b, v128.load(queries + at, 16), b0);
      a1 = fma(a, v128.load(q1 + at), a1);
      b1 = fma(b, v128.load(q1 + at, 16), b1);
      a2 = fma(a, v128.load(q2 + at), a2);
      b2 = fma(b, v128.load(q2 + at, 16), b2);
      a3 = fma(a, v128.load(q3 + at), a3);
      b3 = fma(b, v128.load(q3 + at, 16), b3);
    }
    // Through memory: V8 looks for pairs from the second store of each.
    v128.store(sums, b0, 16);
    v128.store(sums, a0);
    v128.store(sums, b1, 48);
    v128.store(sums, a1, 32);
    v128.store(sums, b2, 80);
    v128.store(sums, a2, 64);
    v128.store(sums, b3, 112);
    v128.store(sums, a3, 96);
    for (; at < row; at += 4, key += sizeof<T>()) {
      const v = oneOf<T>(key);
      addProduct(v, queries + at, sums);
      addProduct(v, q1 + at, sums + 32);
      addProduct(v, q2 + at, sums + 64);
      addProduct(v, q3 + at, sums + 96);
    }
    storeSums(sums, rows, scores, scoreStep);
  }
}

function addProduct(v: f32, query: usize, to: usize): void {
  store<f32>(to, load<f32>(to) + v * load<f32>(query));
}

/** Stores the sum of each of four rows of eight values. */
function storeSums(from: usize, rows: i32, to: usize, step: usize): void {
  const a = f32x4.add(v128.load(from), v128.load(from, 16));
  const b = f32x4.add(v128.load(from, 32), v128.load(from, 48));
  const c = f32x4.add(v128.load(from, 64), v128.load(from, 80));
  const d = f32x4.add(v128.load(from, 96), v128.load(from, 112));
  const ab = f32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(i32x4.shuffle(c, d, 0, 4, 1, 5), i32x4.shuffle(c, d, 2, 6, 3, 7));
  const all = f32x4.add(i64x2.shuffle(ab, cd, 0, 2), i64x2.shuffle(ab, cd, 1, 3));
  v128.store32_lane(to, all, 0);
  if (rows > 1) v128.store32_lane(to + step, all, 1);
  if (rows > 2) v128.store32_lane(to + 2 * step, all, 2);
  if (rows > 3) v128.store32_lane(to + 3 * step, all, 3);
}

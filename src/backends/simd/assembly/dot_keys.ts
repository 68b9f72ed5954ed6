/** Scores of few queries: making panels of keys that are used once or twice would cost more than the products. */
import {fma, loadSome, sumOf, zero} from './vector';

/**
 * scores[r][j] = queries[r] · keys[j] for at most four queries, `width` values each. Keys are `step` bytes apart, rows of
 * scores `scoreStep`.
 */
export function dotKeys(
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
  const body = (<usize>(width & ~3)) << 2;
  for (let j = 0; j < count; j += 2, keys += 2 * step, scores += 8) {
    const other = j + 1 < count ? step : 0;
    let a0 = zero();
    let b0 = a0;
    let a1 = a0;
    let b1 = a0;
    let a2 = a0;
    let b2 = a0;
    let a3 = a0;
    let b3 = a0;
    let at: usize = 0;
    for (let k = keys; at < body; at += 16, k += 16) {
      const a = v128.load(k);
      const b = v128.load(k + other);
      let q = v128.load(queries + at);
      a0 = fma(a, q, a0);
      b0 = fma(b, q, b0);
      q = v128.load(q1 + at);
      a1 = fma(a, q, a1);
      b1 = fma(b, q, b1);
      q = v128.load(q2 + at);
      a2 = fma(a, q, a2);
      b2 = fma(b, q, b2);
      q = v128.load(q3 + at);
      a3 = fma(a, q, a3);
      b3 = fma(b, q, b3);
    }
    if (at < row) {
      const some = width & 3;
      const a = loadSome(keys + at, some);
      const b = loadSome(keys + other + at, some);
      a0 = fma(a, loadSome(queries + at, some), a0);
      b0 = fma(b, loadSome(queries + at, some), b0);
      a1 = fma(a, loadSome(q1 + at, some), a1);
      b1 = fma(b, loadSome(q1 + at, some), b1);
      a2 = fma(a, loadSome(q2 + at, some), a2);
      b2 = fma(b, loadSome(q2 + at, some), b2);
      a3 = fma(a, loadSome(q3 + at, some), a3);
      b3 = fma(b, loadSome(q3 + at, some), b3);
    }
    storePair(scores, a0, b0);
    if (rows > 1) storePair(scores + scoreStep, a1, b1);
    if (rows > 2) storePair(scores + 2 * scoreStep, a2, b2);
    if (rows > 3) storePair(scores + 3 * scoreStep, a3, b3);
  }
}

/** Rows of scores have room for an even number. */
function storePair(at: usize, a: v128, b: v128): void {
  store<f32>(at, sumOf(a));
  store<f32>(at, sumOf(b), 4);
}

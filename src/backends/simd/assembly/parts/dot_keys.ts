/** Scores of a few queries. Building panels of keys for one or two uses would cost more than the products. */
import {fourOf, someOf} from './bfloat16';
import {fma, loadSome, sumOf, zero} from './vector';

/**
 * scores[r][j] = queries[r] · keys[j] for at most four queries of `width` values. Keys are numbers of type T, `step`
 * bytes apart; bfloat16 is u16 here. Rows of scores are `scoreStep` bytes apart.
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
  const body = (<usize>(width & ~3)) << 2;
  // One key at a time. Two at a time would load the queries half as often, but the loop waits for the keys, and memory
  // is read fastest as one stream.
  for (let j = 0; j < count; j++, keys += step, scores += 4) {
    let a0 = zero();
    let a1 = a0;
    let a2 = a0;
    let a3 = a0;
    let at: usize = 0;
    let key = keys;
    for (; at < body; at += 16, key += 4 * sizeof<T>()) {
      const a = fourOf<T>(key);
      a0 = fma(a, v128.load(queries + at), a0);
      a1 = fma(a, v128.load(q1 + at), a1);
      a2 = fma(a, v128.load(q2 + at), a2);
      a3 = fma(a, v128.load(q3 + at), a3);
    }
    if (at < row) {
      const some = width & 3;
      const a = someOf<T>(key, some);
      a0 = fma(a, loadSome(queries + at, some), a0);
      a1 = fma(a, loadSome(q1 + at, some), a1);
      a2 = fma(a, loadSome(q2 + at, some), a2);
      a3 = fma(a, loadSome(q3 + at, some), a3);
    }
    store<f32>(scores, sumOf(a0));
    if (rows > 1) store<f32>(scores + scoreStep, sumOf(a1));
    if (rows > 2) store<f32>(scores + 2 * scoreStep, sumOf(a2));
    if (rows > 3) store<f32>(scores + 3 * scoreStep, sumOf(a3));
  }
}

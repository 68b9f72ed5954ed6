/** Arg max over rows, for greedy sampling. */
import {ArgMaxWord} from '../layouts/sampling';
import {
  argument,
  barrier,
  begin,
  chunkOf,
  claim,
  end,
  pointer,
  scratch,
  scratchOf,
  thread,
  threads,
} from '../parts/threads';
import {maxOf} from '../parts/vector';

/** Instead of an index: this part of the row has a NaN. */
const INVALID = -2;

/**
 * ARG_MAX: index of the largest value in each row. Of equal values the first wins; NaN never does. With `strict`, −1 for
 * a row that has a NaN or no value above −Infinity.
 */
export function argMax(): void {
  const columns = argument(ArgMaxWord.columns);
  const target = pointer(ArgMaxWord.target);
  const strict = argument(ArgMaxWord.strict) != 0;
  const chunk = chunkOf(columns, 4);
  for (let row = 0; row < argument(ArgMaxWord.rows); row++) {
    const x = pointer(ArgMaxWord.x) + ((<usize>row * <usize>columns) << 2);
    let best = -1;
    while (claim(columns, chunk)) {
      // After a NaN, the rest is claimed but need not be read.
      if (best != INVALID) best = indexOfMax(x, begin, end, best, strict);
    }
    store<i32>(scratch(), best);
    barrier();
    if (thread == 0) store<i32>(target + ((<usize>row) << 2), bestOfThreads(x, strict));
    // Thread 0 must have read the scratch memory before any thread overwrites it.
    barrier();
  }
}

function bestOfThreads(x: usize, strict: bool): i32 {
  let best = -1;
  let value: f32 = 0;
  for (let t = 0; t < threads; t++) {
    const index = load<i32>(scratchOf(t));
    if (index == INVALID) return -1;
    if (index < 0) continue;
    const v = load<f32>(x + ((<usize>index) << 2));
    if (best < 0 || v > value || (v == value && index < best)) {
      best = index;
      value = v;
    }
  }
  if (strict && !(value > -Infinity)) return -1;
  return max(best, 0);
}

/**
/**
 * Index of the largest value, or `best` if none is larger than the one there. `best` is −1 if there is none yet. Finds
 * the value first; the second pass, for the index, ends early. With `strict`, INVALID if there is a NaN.
 */
function indexOfMax(x: usize, begin: i32, end: i32, best: i32, strict: bool): i32 {
  let largest = f32x4.splat(-Infinity);
  let invalid = f32x4.splat(0);
  let i = begin;
  let other = largest;
  for (; i + 8 <= end; i += 8) {
    const at = x + ((<usize>i) << 2);
    const a = v128.load(at);
    const b = v128.load(at, 16);
    largest = f32x4.pmax(largest, a);
    other = f32x4.pmax(other, b);
    invalid = v128.or(invalid, v128.or(f32x4.ne(a, a), f32x4.ne(b, b)));
  }
  if (strict && v128.any_true(invalid)) return INVALID;
  largest = f32x4.pmax(largest, other);
  let value = maxOf(largest);
  for (; i < end; i++) {
    const v = load<f32>(x + ((<usize>i) << 2));
    if (v > value) value = v;
    else if (strict && v != v) return INVALID;
  }
  if (best >= 0 && !(value > load<f32>(x + ((<usize>best) << 2)))) return best;
  i = begin;
  for (const wanted = f32x4.splat(value); i + 16 <= end; i += 16) {
    const at = x + ((<usize>i) << 2);
    const a = v128.or(f32x4.eq(v128.load(at), wanted), f32x4.eq(v128.load(at, 16), wanted));
    const b = v128.or(f32x4.eq(v128.load(at, 32), wanted), f32x4.eq(v128.load(at, 48), wanted));
    if (v128.any_true(v128.or(a, b))) break;
  }
  for (; i < end; i++) {
    if (load<f32>(x + ((<usize>i) << 2)) == value) return i;
  }
  return best;
}

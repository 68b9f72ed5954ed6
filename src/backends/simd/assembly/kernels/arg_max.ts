/** Arg max over rows, for greedy sampling. */
import {ArgMaxWord} from '../layouts/sampling';
import {argument, barrier, first, last, pointer, scratch, scratchOf, thread, threads} from '../parts/threads';
import {maxOf} from '../parts/vector';

/** ARG_MAX: index of the largest value in each row. Of equal values the first wins; NaN never does. */
export function argMax(): void {
  const columns = argument(ArgMaxWord.columns);
  const target = pointer(ArgMaxWord.target);
  const begin = first(columns);
  for (let row = 0; row < argument(ArgMaxWord.rows); row++) {
    const x = pointer(ArgMaxWord.x) + ((<usize>row * <usize>columns) << 2);
    const best = indexOfMax(x, begin, last(columns));
    store<i32>(scratch(), best);
    barrier();
    if (thread == 0) store<i32>(target + ((<usize>row) << 2), bestOfThreads(x));
    // Thread 0 must have read the scratch memory before any thread overwrites it.
    barrier();
  }
}

function bestOfThreads(x: usize): i32 {
  let best = -1;
  let value: f32 = 0;
  for (let t = 0; t < threads; t++) {
    const index = load<i32>(scratchOf(t));
    if (index < 0) continue;
    const v = load<f32>(x + ((<usize>index) << 2));
    if (best < 0 || v > value) {
      best = index;
      value = v;
    }
  }
  return max(best, 0);
}

/** Index of the largest value, or −1. Finds the value first; the second pass, for the index, ends early. */
function indexOfMax(x: usize, begin: i32, end: i32): i32 {
  let largest = f32x4.splat(-Infinity);
  let i = begin;
  let other = largest;
  for (; i + 8 <= end; i += 8) {
    const at = x + ((<usize>i) << 2);
    largest = f32x4.pmax(largest, v128.load(at));
    other = f32x4.pmax(other, v128.load(at, 16));
  }
  largest = f32x4.pmax(largest, other);
  let value = maxOf(largest);
  for (; i < end; i++) {
    const v = load<f32>(x + ((<usize>i) << 2));
    if (v > value) value = v;
  }
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
  return -1;
}

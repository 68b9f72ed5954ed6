/** The largest values of a row. Each thread keeps the best of its part in a heap; then one thread merges the heaps. */
import {TOP_K_HEADER, TopKWord} from '../layouts/sampling';
import {argument, barrier, first, last, pointer, scratch, scratchOf, thread, threads} from '../parts/threads';

// This thread's heap: values, then indices, with the worst on top.
let values: usize = 0;
let indices: usize = 0;

function valueAt(slot: i32): f32 {
  return load<f32>(values + ((<usize>slot) << 2));
}

function indexAt(slot: i32): i32 {
  return load<i32>(indices + ((<usize>slot) << 2));
}

function put(slot: i32, value: f32, index: i32): void {
  store<f32>(values + ((<usize>slot) << 2), value);
  store<i32>(indices + ((<usize>slot) << 2), index);
}

/** Replaces the entry at `slot` in a heap of `count`, and lets the new one sink below worse ones. */
function sink(slot: i32, count: i32, value: f32, index: i32): void {
  for (;;) {
    let child = 2 * slot + 1;
    if (child >= count) break;
    if (child + 1 < count && isWorse(valueAt(child + 1), indexAt(child + 1), valueAt(child), indexAt(child))) child++;
    if (!isWorse(valueAt(child), indexAt(child), value, index)) break;
    put(slot, valueAt(child), indexAt(child));
    slot = child;
  }
  put(slot, value, index);
}

/** Of equal values the later one is worse. */
function isWorse(a: f32, i: i32, b: f32, j: i32): bool {
  return a < b || (a == b && i > j);
}

/** Collects the best `count` of columns begin … end − 1, best first. There are at least `count` columns. */
function collect(x: usize, begin: i32, end: i32, count: i32): void {
  if (count == 0) return;
  let i = begin;
  for (let slot = 0; slot < count; slot++, i++) put(slot, load<f32>(x + ((<usize>i) << 2)), i);
  for (let slot = (count >> 1) - 1; slot >= 0; slot--) sink(slot, count, valueAt(slot), indexAt(slot));
  let worst = valueAt(0);
  // Sixteen at a time: nearly all are too small.
  for (; i + 16 <= end; i += 16) {
    const at = x + ((<usize>i) << 2);
    const a = f32x4.pmax(v128.load(at), v128.load(at, 16));
    const b = f32x4.pmax(v128.load(at, 32), v128.load(at, 48));
    if (!v128.any_true(f32x4.gt(f32x4.pmax(a, b), f32x4.splat(worst)))) continue;
    for (let j = i; j < i + 16; j++) worst = offer(x, j, count, worst);
  }
  for (; i < end; i++) worst = offer(x, i, count, worst);
  // Heap sort: moves the worst remaining entry to the end, one by one.
  for (let slot = count - 1; slot > 0; slot--) {
    const value = valueAt(slot);
    const index = indexAt(slot);
    put(slot, valueAt(0), indexAt(0));
    sink(0, slot, value, index);
  }
}

/** Keeps a value if it is larger than the worst one. Returns the worst value kept. */
function offer(x: usize, index: i32, count: i32, worst: f32): f32 {
  const value = load<f32>(x + ((<usize>index) << 2));
  if (!(value > worst)) return worst;
  sink(0, count, value, index);
  return valueAt(0);
}

/**
 * TOP_K: the largest values of each row, largest first, and their indices. k values and indices must fit in the scratch
 * memory of a thread.
 */
export function topK(): void {
  const columns = argument(TopKWord.columns);
  const k = argument(TopKWord.k);
  const step = pointer(TopKWord.step);
  values = scratch() + TOP_K_HEADER;
  indices = values + ((<usize>k) << 2);
  const begin = first(columns);
  const count = min(k, last(columns) - begin);
  for (let row: usize = 0; row < <usize>argument(TopKWord.rows); row++) {
    const x = pointer(TopKWord.x) + ((row * <usize>columns) << 2);
    collect(x, begin, last(columns), count);
    store<i32>(scratch(), count);
    barrier();
    if (thread == 0)
      merge(
        k,
        pointer(TopKWord.values) + row * step,
        pointer(TopKWord.indices) + row * step,
        argument(TopKWord.indicesAsFloats) != 0,
      );
    // Thread 0 must have read the scratch memory before any thread overwrites it.
    barrier();
  }
}

/**
 * Merges the threads' lists. Their parts are consecutive, so that of equal values the first found has the lowest index.
 */
function merge(k: i32, toValues: usize, toIndices: usize, asFloat: bool): void {
  // The number of entries used from each thread's list, stored after its length.
  for (let t = 0; t < threads; t++) store<i32>(scratchOf(t), 0, 4);
  for (let n = 0; n < k; n++, toValues += 4, toIndices += 4) {
    let best = -1;
    let value: f32 = 0;
    for (let t = 0; t < threads; t++) {
      const used = load<i32>(scratchOf(t), 4);
      if (used >= load<i32>(scratchOf(t))) continue;
      const v = load<f32>(scratchOf(t) + TOP_K_HEADER + ((<usize>used) << 2));
      if (best >= 0 && !(v > value)) continue;
      best = t;
      value = v;
    }
    const used = load<i32>(scratchOf(best), 4);
    const index = load<i32>(scratchOf(best) + TOP_K_HEADER + ((<usize>(k + used)) << 2));
    store<i32>(scratchOf(best), used + 1, 4);
    store<f32>(toValues, value);
    if (asFloat) store<f32>(toIndices, <f32>index);
    else store<i32>(toIndices, index);
  }
}

/** The largest values of a row. Each thread keeps the best that it has seen in a heap; then one thread merges them. */
import {TOP_K_HEADER, TopKWord} from '../layouts/sampling';
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

// This thread's heap: values, then indices, with the worst on top.
let values: usize = 0;
let indices: usize = 0;
/** Whether this thread's part of the row has a NaN. */
let invalid: bool = false;

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

/**
 * Keeps the best k of columns begin … end − 1 and of the `count` entries from columns before them, which are a heap once
 * there are k of them. Returns the new number of entries.
 */
function collect(x: usize, begin: i32, end: i32, count: i32, k: i32): i32 {
  let i = begin;
  if (count < k) {
    for (; count < k && i < end; count++, i++) {
      const value = load<f32>(x + ((<usize>i) << 2));
      if (value != value) invalid = true;
      put(count, value, i);
    }
    if (count < k) return count;
    makeHeap(count);
  }
  let worst = valueAt(0);
  // Sixteen at a time: nearly all are too small.
  for (; i + 16 <= end; i += 16) {
    const at = x + ((<usize>i) << 2);
    const a = v128.load(at);
    const b = v128.load(at, 16);
    const c = v128.load(at, 32);
    const d = v128.load(at, 48);
    // A group with a NaN is checked value by value, like one with a value that is large enough.
    const ab = v128.or(notAtMost(a, worst), notAtMost(b, worst));
    const cd = v128.or(notAtMost(c, worst), notAtMost(d, worst));
    if (!v128.any_true(v128.or(ab, cd))) continue;
    for (let j = i; j < i + 16; j++) worst = offer(x, j, count, worst);
  }
  for (; i < end; i++) worst = offer(x, i, count, worst);
  return count;
}

function makeHeap(count: i32): void {
  for (let slot = (count >> 1) - 1; slot >= 0; slot--) sink(slot, count, valueAt(slot), indexAt(slot));
}

/** Sorts a heap, best first: moves the worst remaining entry to the end, one by one. */
function sortHeap(count: i32): void {
  for (let slot = count - 1; slot > 0; slot--) {
    const value = valueAt(slot);
    const index = indexAt(slot);
    put(slot, valueAt(0), indexAt(0));
    sink(0, slot, value, index);
  }
}

/** True for larger values and for NaN. */
function notAtMost(v: v128, worst: f32): v128 {
  return v128.not(f32x4.le(v, f32x4.splat(worst)));
}

/** Keeps a value if it is larger than the worst one. Returns the worst value kept. */
function offer(x: usize, index: i32, count: i32, worst: f32): f32 {
  const value = load<f32>(x + ((<usize>index) << 2));
  if (!(value > worst)) {
    if (value != value) invalid = true;
    return worst;
  }
  sink(0, count, value, index);
  return valueAt(0);
}

/**
 * TOP_K: the largest values of each row, largest first, and their indices. If `indicesAsFloats`, the first value is NaN
 * for a row that has a NaN. k values and indices must fit in the scratch
 * memory of a thread.
 */
export function topK(): void {
  const columns = argument(TopKWord.columns);
  const k = argument(TopKWord.k);
  const step = pointer(TopKWord.step);
  values = scratch() + TOP_K_HEADER;
  indices = values + ((<usize>k) << 2);
  const chunk = chunkOf(columns, 4);
  for (let row: usize = 0; row < <usize>argument(TopKWord.rows); row++) {
    const x = pointer(TopKWord.x) + ((row * <usize>columns) << 2);
    invalid = false;
    let count = 0;
    while (claim(columns, chunk)) count = collect(x, begin, end, count, k);
    if (count < k) makeHeap(count);
    sortHeap(count);
    store<i32>(scratch(), count);
    store<i32>(scratch(), <i32>invalid, 8);
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

/** Merges the threads' lists. Of equal values the one with the lowest index comes first. */
function merge(k: i32, toValues: usize, toIndices: usize, asFloat: bool): void {
  const largest = toValues;
  let valid = true;
  // The number of entries used from each thread's list, stored after its length.
  for (let t = 0; t < threads; t++) {
    store<i32>(scratchOf(t), 0, 4);
    if (load<i32>(scratchOf(t), 8) != 0) valid = false;
  }
  for (let n = 0; n < k; n++, toValues += 4, toIndices += 4) {
    let best = -1;
    let value: f32 = 0;
    let index = 0;
    for (let t = 0; t < threads; t++) {
      const used = load<i32>(scratchOf(t), 4);
      if (used >= load<i32>(scratchOf(t))) continue;
      const at = scratchOf(t) + TOP_K_HEADER + ((<usize>used) << 2);
      const v = load<f32>(at);
      const i = load<i32>(at + ((<usize>k) << 2));
      if (best >= 0 && !isWorse(value, index, v, i)) continue;
      best = t;
      value = v;
      index = i;
    }
    store<i32>(scratchOf(best), load<i32>(scratchOf(best), 4) + 1, 4);
    store<f32>(toValues, value);
    if (asFloat) store<f32>(toIndices, <f32>index);
    else store<i32>(toIndices, index);
  }
  if (asFloat && !valid) store<f32>(largest, NaN);
}

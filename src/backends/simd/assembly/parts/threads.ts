/**
 * Threads. Every thread has an instance of this module on each memory. All threads run every command, each on its part,
 * and meet at barriers. Variables of the module are private to a thread; memory is shared.
 */
import {ARGUMENTS, BANK, COMMAND, FAILED, GENERATION, PATIENCE, PHASES, SCRATCH, SCRATCH_BYTES} from '../numbers';

const POLLS_BEFORE_NAP = 20000;

/**
 * Sleeps `NAP_MILLISECONDS`. Provided by the host, because `memory.atomic.wait32` cannot be used: with it the baseline
 * compiler of V8 11.3 (Node 20) loses local variables.
 */
declare function nap(): void;

export let thread: i32 = 0;
export let threads: i32 = 1;
let phase: i32 = 0;
let seen: i32 = 0;

export function setThread(index: i32, count: i32): void {
  thread = index;
  threads = count;
}

/** Scratch memory of this thread, `SCRATCH_BYTES` long. */
export function scratch(): usize {
  return scratchOf(thread);
}

export function scratchOf(index: i32): usize {
  return <usize>SCRATCH + <usize>index * <usize>SCRATCH_BYTES;
}

/** The first of n items in this thread's part. */
export function first(n: i32): i32 {
  return <i32>((<i64>n * thread) / threads);
}

/** One past the last item in this thread's part. */
export function last(n: i32): i32 {
  return <i32>((<i64>n * (thread + 1)) / threads);
}

export function argument(index: i32): i32 {
  return load<i32>(<usize>ARGUMENTS + ((<usize>index) << 2));
}

export function pointer(index: i32): usize {
  return load<u32>(<usize>ARGUMENTS + ((<usize>index) << 2));
}

export function floatArgument(index: i32): f32 {
  return load<f32>(<usize>ARGUMENTS + ((<usize>index) << 2));
}

/** Returns when every thread has arrived. */
export function barrier(): void {
  if (!ASC_FEATURE_THREADS) return;
  if (threads == 1) return;
  phase++;
  atomic.store<i32>(<usize>PHASES + ((<usize>thread) << 6), phase);
  for (let t = 0; t < threads; t++) waitForPhase(<usize>PHASES + ((<usize>t) << 6));
}

/** Other threads may be one phase ahead; wait only while one is behind. */
function waitForPhase(at: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  for (let polls = 0; polls < POLLS_BEFORE_NAP; polls++) {
    if (atomic.load<i32>(at) - phase >= 0) return;
  }
  // Another program probably runs on the core of that thread: sleep, so that the thread can run on this core.
  const patience = load<i32>(PATIENCE);
  for (let naps = 0; naps < patience; naps++) {
    nap();
    if (atomic.load<i32>(at) - phase >= 0) return;
    if (atomic.load<i32>(FAILED) != 0) unreachable();
  }
  atomic.store<i32>(FAILED, 1);
  unreachable();
}

/** Waits for the next command. False if none came within `polls` polls. */
export function nextCommand(polls: i32): bool {
  if (!ASC_FEATURE_THREADS) return false;
  for (; polls > 0; polls--) {
    const generation = atomic.load<i32>(GENERATION);
    if (generation == seen) continue;
    seen = generation;
    return true;
  }
  return false;
}

export function seenGeneration(): i32 {
  return seen;
}

export function commandNumber(): i32 {
  return load<i32>(COMMAND);
}

export function bankNumber(): i32 {
  return load<i32>(BANK);
}

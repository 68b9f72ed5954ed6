/**
 * Every thread has an instance of this module on each memory, and all of them run every command side by side, each on
 * its part. They meet in barriers. Variables of the module are a thread's own, memory is everyone's.
 */
import {ARGUMENTS, BANK, COMMAND, FAILED, GENERATION, PATIENCE, PHASES, SCRATCH, SCRATCH_BYTES} from '../numbers';

const POLLS_BEFORE_NAP = 20000;

/**
 * Sleeps 0.1 ms, given by the host. The instruction for it is no choice: the baseline compiler of V8 11.3 (Node 20) loses
 * local variables across `memory.atomic.wait32`.
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

/** Memory of this thread, `SCRATCH_BYTES` long. */
export function scratch(): usize {
  return scratchOf(thread);
}

export function scratchOf(index: i32): usize {
  return <usize>SCRATCH + <usize>index * <usize>SCRATCH_BYTES;
}

/** Where this thread's part of n things begins. */
export function first(n: i32): i32 {
  return <i32>((<i64>n * thread) / threads);
}

/** Where it ends. */
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

/** Goes on when every thread is here. */
export function barrier(): void {
  if (!ASC_FEATURE_THREADS) return;
  if (threads == 1) return;
  phase++;
  atomic.store<i32>(<usize>PHASES + ((<usize>thread) << 6), phase);
  for (let t = 0; t < threads; t++) waitForPhase(<usize>PHASES + ((<usize>t) << 6));
}

/** Others may be a phase ahead already: anything but behind will do. */
function waitForPhase(at: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  for (let polls = 0; polls < POLLS_BEFORE_NAP; polls++) {
    if (atomic.load<i32>(at) - phase >= 0) return;
  }
  // Now another program has the core of the thread we wait for: it gets ours.
  const patience = load<i32>(PATIENCE);
  for (let naps = 0; naps < patience; naps++) {
    nap();
    if (atomic.load<i32>(at) - phase >= 0) return;
    if (atomic.load<i32>(FAILED) != 0) unreachable();
  }
  atomic.store<i32>(FAILED, 1);
  unreachable();
}

/** The next command, if one came within so many polls. */
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

/**
 * Threads. Every thread has an instance of this module on each memory. All threads run every command and meet at
 * barriers. Variables of the module are private to a thread; memory is shared.
 *
 * The time between two barriers is a phase. In a phase the threads share out the items of some work: each claims a few
 * items at a time until none are left. A thread whose core is busy with something else simply does less. Two kinds of
 * shared words make this work:
 *
 * - **Phases.** Each thread has a word with the number of barriers it has reached, and only that thread writes it. At a
 *   barrier a thread stores its new phase, then waits until all others have stored at least the same. These accesses
 *   are atomic and sequentially consistent, so whoever reads a phase also sees everything that its thread wrote before
 *   it. A thread may be one phase ahead of another, never two. Only differences of phases are compared, which stay right
 *   when the numbers wrap around.
 * - **Counters of claims.** A claim adds the size of a chunk to a counter, atomically, and owns the items between the
 *   old value and the new one. Two counters are used in turn, one in even phases and one in odd ones. After each
 *   barrier, thread 0 resets the counter of the next phase to zero. No other thread uses it at that time: the phase
 *   before, which used it, ended at this barrier, and the next phase begins at a barrier that thread 0 has yet to reach.
 *   Since thread 0 stores the zero before its phase, all threads find it there.
 *
 * A waiting thread first polls for some 20 µs. If the other thread is later than that, another program probably runs on
 * its core, and polling would take time from both. The thread then sleeps until the phase of the missing thread changes.
 * It counts itself in `SLEEPERS_AT_BARRIER` and reads the phase once more before it sleeps; the missing thread stores
 * its phase before it reads that count. One of the two comes first, so either the phase is seen or the sleeper is woken.
 */
import {
  ARGUMENTS,
  BANK,
  CLAIMS,
  COMMAND,
  FAILED,
  GENERATION,
  PATIENCE,
  PHASES,
  SCRATCH,
  SCRATCH_BYTES,
  SLEEPERS_AT_BARRIER,
} from '../numbers';

const POLLS_BEFORE_SLEEP = 20000;

/** Bytes of memory per claim: a few microseconds of work, while a claim takes some 20 ns. */
const CLAIM_BYTES: usize = 51200;
/** The fewest bytes per claim. */
const LEAST_CLAIM_BYTES: usize = 4096;
/** Work that is too small for claims of `CLAIM_BYTES` is divided into this many per thread. */
const CLAIMS_PER_THREAD = 4;

/**
 * Sleeps until `wake` is called for this word of the memory, at most `WAIT_MILLISECONDS`. Returns at once if the word
 * does not have this value. Provided by the host, because `memory.atomic.wait32` cannot be used: with it the baseline
 * compiler of V8 11.3 (Node 20) loses local variables.
 */
declare function wait(word: i32, value: i32): void;

/** Wakes all threads that wait for this word. Provided by the host as well. */
declare function wake(word: i32): void;

export let thread: i32 = 0;
export let threads: i32 = 1;
let phase: i32 = 0;
let seen: i32 = 0;

/** The items of the last claim: `begin` … `end` − 1. */
export let begin: i32 = 0;
export let end: i32 = 0;
/** Whether the only thread has claimed everything. */
let taken: bool = false;
/** The last phase in which this thread found nothing left to claim. */
let finished: i32 = -1;

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

/** How many of n items to claim at a time, if each of them reads or writes this many bytes. */
export function chunkOf(n: i32, bytes: usize): i32 {
  if (threads == 1) return max(n, 1);
  bytes = max<usize>(bytes, 1);
  const most = min(<i32>(CLAIM_BYTES / bytes), n / (CLAIMS_PER_THREAD * threads));
  return max(max(most, <i32>(LEAST_CLAIM_BYTES / bytes)), 1);
}

/**
 * Claims the next items of n, at most `chunk`, as `begin` … `end` − 1, or returns false if none are left. Used as
 * `while (claim(n, chunk))`, in ascending order, with the same numbers on all threads, and at most once in a phase.
 * n + threads · chunk must be below 2³¹.
 */
export function claim(n: i32, chunk: i32): bool {
  if (!ASC_FEATURE_THREADS || threads == 1) {
    taken = !taken && n > 0;
    begin = 0;
    end = n;
    return taken;
  }
  // A second loop would find the counter of the first, and leave all work undone.
  if (finished == phase) unreachable();
  begin = atomic.add<i32>(claimsOf(phase), chunk);
  end = min(n, begin + chunk);
  if (begin < n) return true;
  finished = phase;
  return false;
}

/** Like `claim`, for n float32 values, in chunks of whole cache lines. */
export function claimValues(n: i32): bool {
  const lines = (n + 15) >> 4;
  const more = claim(lines, chunkOf(lines, 64));
  begin <<= 4;
  end = min(n, end << 4);
  return more;
}

/** The address of the counter of a phase. */
function claimsOf(phase: i32): usize {
  return <usize>CLAIMS + ((<usize>(phase & 1)) << 6);
}

function phaseOf(thread: i32): usize {
  return <usize>PHASES + ((<usize>thread) << 6);
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

/** Returns when every thread has arrived. Begins a new phase. */
export function barrier(): void {
  if (!ASC_FEATURE_THREADS) return;
  if (threads == 1) return;
  phase++;
  atomic.store<i32>(phaseOf(thread), phase);
  if (atomic.load<i32>(SLEEPERS_AT_BARRIER) > 0) wake(<i32>(phaseOf(thread) >> 2));
  for (let t = 0; t < threads; t++) waitForPhase(phaseOf(t));
  if (thread == 0) atomic.store<i32>(claimsOf(phase + 1), 0);
}

function waitForPhase(at: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  for (let polls = 0; polls < POLLS_BEFORE_SLEEP; polls++) {
    if (atomic.load<i32>(at) - phase >= 0) return;
  }
  atomic.add<i32>(SLEEPERS_AT_BARRIER, 1);
  for (let waits = load<i32>(PATIENCE); ; waits--) {
    const value = atomic.load<i32>(at);
    if (value - phase >= 0) break;
    if (atomic.load<i32>(FAILED) != 0) unreachable();
    if (waits <= 0) {
      atomic.store<i32>(FAILED, 1);
      unreachable();
    }
    wait(<i32>(at >> 2), value);
  }
  atomic.sub<i32>(SLEEPERS_AT_BARRIER, 1);
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

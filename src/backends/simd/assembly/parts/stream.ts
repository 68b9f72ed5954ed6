/** What kernels need that read weights once, as fast as memory gives them. */

/**
 * Whether products of one row read a word of each page ahead, and two streams side by side. Some processors do not fetch
 * the next page by themselves, so this makes them faster by a third. Others follow a single stream well, and both
 * disturb them as much. The host chooses: see `../../engine/reading_trial.ts`.
 */
export let readsAhead: bool = true;

export function setReadsAhead(ahead: bool): void {
  readsAhead = ahead;
}

/** How far ahead of the weights in use pages are read. */
const AHEAD: usize = 16384;
const PAGE: usize = 4096;

/** Keeps what was read ahead, so that the compiler keeps those reads. */
let kept: i32 = 0;

/** Reads a word of each page that holds the `bytes` bytes at `at`, `AHEAD` bytes later, but not from `end` on. */
export function readAhead(at: usize, bytes: usize, end: usize): void {
  if (!readsAhead) return;
  let word = 0;
  at += AHEAD;
  for (const stop = min(at + bytes, end); at < stop; at += PAGE) word ^= load<i32>(at);
  kept = word;
}

/** Reads a word of each of eight rows `step` bytes apart, unless they go past `end`. */
export function readRowsAhead(at: usize, step: usize, end: usize): void {
  if (!readsAhead || at + 8 * step > end) return;
  let word = load<i32>(at) ^ load<i32>(at + step) ^ load<i32>(at + 2 * step) ^ load<i32>(at + 3 * step);
  at += 4 * step;
  word ^= load<i32>(at) ^ load<i32>(at + step) ^ load<i32>(at + 2 * step) ^ load<i32>(at + 3 * step);
  kept = word;
}

// Masks in variables: V8 creates a constant vector again at every use, also in loops, but keeps a variable in a register.

/** The upper halves of words. */
export let highHalves: i32 = 0;
/** The low byte of each 16-bit integer. */
export let lowBytes: i32 = 0;
/** The low four bits of each byte. */
export let nibbles: i32 = 0;
/** The highest bits of even bytes, and of odd ones. */
export let evenSigns: i32 = 0;
export let oddSigns: i32 = 0;
/** Added to a float32 number below 2²², and subtracted from the bits, gives the nearest integer. */
export let roundingBias: f32 = 0;
/** 128 */
export let halfByte: i32 = 0;
/** 1 and 256: the values of a low and of a high byte. */
export let unit: i32 = 0;
export let highUnit: i32 = 0;

export function startStreams(): void {
  highHalves = 0xffff0000;
  lowBytes = 0x00ff00ff;
  nibbles = 0x0f0f0f0f;
  evenSigns = 0x00800080;
  oddSigns = 0x80008000;
  roundingBias = 12582912;
  halfByte = 128;
  unit = 1;
  highUnit = 256;
}

/** Which keys each query sees, from positions, padding, images and a mask. See `src/ops/attention.ts`. */
import {VisibilityWord} from '../layouts/attention';
import {argument, pointer} from './threads';

let length: i32 = 1;
let size: i32 = 0;
let left: i32 = 0;
let right: i32 = 0;
let bidirectional: bool = false;
let queryPositions: usize = 0;
let sharedQueryPositions: bool = false;
/** 0 if keys are in a ring, where the newest key is at the position of the query. */
let keyPositions: usize = 0;
let sharedKeyPositions: bool = false;
let padding: usize = 0;
let queryImages: usize = 0;
let keyImages: usize = 0;
let mask: usize = 0;
let sharedMask: bool = false;

/** Reads the words of `VisibilityWord` from argument `at` on. */
export function setVisibility(at: i32, length_: i32, size_: i32): void {
  length = length_;
  size = size_;
  left = argument(at + VisibilityWord.left);
  right = argument(at + VisibilityWord.right);
  bidirectional = argument(at + VisibilityWord.bidirectional) != 0;
  queryPositions = pointer(at + VisibilityWord.queryPositions);
  sharedQueryPositions = argument(at + VisibilityWord.queryPositionRows) == 1;
  keyPositions = pointer(at + VisibilityWord.keyPositions);
  sharedKeyPositions = argument(at + VisibilityWord.keyPositionRows) == 1;
  padding = pointer(at + VisibilityWord.padding);
  queryImages = pointer(at + VisibilityWord.queryImages);
  keyImages = pointer(at + VisibilityWord.keyImages);
  mask = pointer(at + VisibilityWord.mask);
  sharedMask = argument(at + VisibilityWord.maskRows) == 1;
}

/**
 * Sets the visibility of keys in a ring of `size` slots for one new token per row. `positions` holds the position of
 * each token, negative for a row without one.
 */
export function setRingVisibility(size_: i32, window: i32, positions: usize): void {
  length = 1;
  size = size_;
  left = window - 1;
  queryPositions = positions;
  sharedQueryPositions = false;
  keyPositions = 0;
}

/** How many keys a row of the batch may see: the filled slots of a ring, or all keys. */
export function keysInUse(batch: i32): i32 {
  return keyPositions == 0 ? max(0, min(intAt(queryPositions, batch) + 1, size)) : size;
}

function intAt(at: usize, index: i32): i32 {
  return load<i32>(at + ((<usize>index) << 2));
}

function sees(batch: i32, t: i32, s: i32): bool {
  const position = intAt(queryPositions, sharedQueryPositions ? t : batch * length + t);
  if (keyPositions == 0) return position >= 0 && (left >= size - 1 || (position - s) % size <= left);
  const key = intAt(keyPositions, sharedKeyPositions ? s : batch * size + s);
  const distance = position - key;
  if (key < 0 || distance > left || -distance > right) return false;
  if (!bidirectional && distance < 0) {
    if (queryImages == 0) return false;
    const image = intAt(queryImages, batch * length + t);
    if (image <= 0 || image != intAt(keyImages, batch * size + s)) return false;
  }
  if (padding != 0) {
    if (intAt(padding, batch * size + s) == 0) return false;
    if (bidirectional && intAt(padding, batch * size + t) == 0) return false;
  }
  return mask == 0 || load<f32>(mask + ((<usize>(((sharedMask ? 0 : batch) * length + t) * size + s)) << 2)) != 0;
}

/**
 * Writes to `seen` which of the `count` keys from `key` on each token sees: one word per key, with all bits set if it
 * is seen, and `stride` words per token. Returns false if no token sees any key.
 */
export function findVisible(seen: usize, stride: i32, batch: i32, token: i32, tokens: i32, key: i32, count: i32): bool {
  if (keyPositions == 0 && left >= size - 1) {
    // The ring is no longer than the window, so the only token sees every key in it.
    memory.fill(seen, 0xff, (<usize>count) << 2);
    memory.fill(seen + ((<usize>count) << 2), 0, (<usize>(stride - count)) << 2);
    return intAt(queryPositions, batch) >= 0;
  }
  if (keyPositions != 0 && outOfSight(batch, token, tokens, key, count)) return false;
  if (keyPositions != 0 && padding == 0 && queryImages == 0 && mask == 0) {
    return findVisibleByPositions(seen, stride, batch, token, tokens, key, count);
  }
  let any = false;
  for (let t = 0; t < tokens; t++) {
    let at = seen + ((<usize>(t * stride)) << 2);
    for (let s = 0; s < stride; s++, at += 4) {
      const yes = s < count && sees(batch, token + t, key + s);
      store<i32>(at, yes ? -1 : 0);
      any = any || yes;
    }
  }
  return any;
}

// What `findBounds` found: the lowest and highest positions of keys and of tokens, and whether a slot is empty.
let nearest: i32 = 0;
let furthest: i32 = 0;
let first: i32 = 0;
let last: i32 = 0;
let anyEmpty: bool = false;

/** Looks at each key and each token once, not at each pair. */
function findBounds(batch: i32, token: i32, tokens: i32, key: i32, count: i32): void {
  nearest = i32.MAX_VALUE;
  furthest = -1;
  anyEmpty = false;
  const keys = (sharedKeyPositions ? 0 : batch * size) + key;
  for (let s = 0; s < count; s++) {
    const position = intAt(keyPositions, keys + s);
    if (position < 0) {
      anyEmpty = true;
      continue;
    }
    nearest = min(nearest, position);
    furthest = max(furthest, position);
  }
  first = i32.MAX_VALUE;
  last = i32.MIN_VALUE;
  const queries = (sharedQueryPositions ? 0 : batch * length) + token;
  for (let t = 0; t < tokens; t++) {
    const position = intAt(queryPositions, queries + t);
    first = min(first, position);
    last = max(last, position);
  }
}

/** True if the positions show that no token sees any of the keys: slots of the cache are empty or too far away. */
function outOfSight(batch: i32, token: i32, tokens: i32, key: i32, count: i32): bool {
  findBounds(batch, token, tokens, key, count);
  if (furthest < 0 || first - furthest > left) return true;
  // Tokens of an image also see later tokens.
  return nearest > last && (nearest - last > right || (!bidirectional && queryImages == 0));
}

/** True if the positions show that every token sees all of the keys, and nothing else hides any. */
export function seesAll(batch: i32, token: i32, tokens: i32, key: i32, count: i32): bool {
  if (keyPositions == 0 || padding != 0 || mask != 0) return false;
  findBounds(batch, token, tokens, key, count);
  return !anyEmpty && last - nearest <= left && first - furthest >= (bidirectional ? -right : 0);
}

/** Like `findVisible`, where visibility depends only on positions: four keys at a time. */
function findVisibleByPositions(
  seen: usize,
  stride: i32,
  batch: i32,
  token: i32,
  tokens: i32,
  key: i32,
  count: i32,
): bool {
  const positions = keyPositions + ((<usize>((sharedKeyPositions ? 0 : batch * size) + key)) << 2);
  const furthest = i32x4.splat(left);
  const nearest = i32x4.splat(bidirectional ? -right : 0);
  const none = i32x4.splat(0);
  let any = none;
  for (let t = 0; t < tokens; t++) {
    const at = seen + ((<usize>(t * stride)) << 2);
    const position = i32x4.splat(intAt(queryPositions, (sharedQueryPositions ? 0 : batch * length) + token + t));
    for (let s = 0; s < stride; s += 4) {
      const place = (<usize>s) << 2;
      let visible = none;
      if (s < count) {
        const keys = v128.load(positions + place);
        const distance = i32x4.sub(position, keys);
        visible = v128.and(i32x4.le_s(distance, furthest), i32x4.ge_s(distance, nearest));
        visible = v128.and(visible, i32x4.ge_s(keys, none));
        // Lanes after the last key are not visible.
        visible = v128.and(visible, i32x4.lt_s(i32x4.add(i32x4.splat(s), i32x4(0, 1, 2, 3)), i32x4.splat(count)));
      }
      v128.store(at + place, visible);
      any = v128.or(any, visible);
    }
  }
  return v128.any_true(any);
}

/** Whether any token sees one of the four keys from key s on, by what `findVisible` wrote. */
function anySees(seen: usize, stride: i32, tokens: i32, s: i32): bool {
  seen += (<usize>s) << 2;
  let any = v128.load(seen);
  for (let t = 1; t < tokens; t++) any = v128.or(any, v128.load(seen + ((<usize>(t * stride)) << 2)));
  return v128.any_true(any);
}

/** The first key that some token sees, or a key up to seven before it: a multiple of eight. */
export function firstVisible(seen: usize, stride: i32, tokens: i32): i32 {
  let s = 0;
  while (!anySees(seen, stride, tokens, s) && !anySees(seen, stride, tokens, s + 4)) s += 8;
  return s;
}

/** Where the last key ends that some token sees, or up to seven keys later: `count`, or a multiple of eight. */
export function endOfVisible(seen: usize, stride: i32, tokens: i32, count: i32): i32 {
  let s = (count + 7) & ~7;
  while (!anySees(seen, stride, tokens, s - 8) && !anySees(seen, stride, tokens, s - 4)) s -= 8;
  return min(s, count);
}

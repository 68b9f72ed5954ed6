/**
 * Grouped-query attention: how the work is divided among threads, and how their results are merged.
 * `../parts/attend.ts` has the arithmetic.
 */
import {ATTENTION_PARTS, AttentionWord, PARTIAL_HEADER} from '../layouts/attention';
import {
  attend,
  halves,
  heads,
  keyHeads,
  keys,
  keyShift,
  length,
  maxima,
  MOST_KEYS,
  mostRows,
  NOTHING,
  paddedWidth,
  setAttention,
  size,
  sums,
  totals,
  values,
  width,
  writeRows,
} from '../parts/attend';
import {roundRow} from '../parts/bfloat16';
import {argument, barrier, begin, claim, end, floatArgument, pointer, threads} from '../parts/threads';
import {addScaledRow, exp4, scaleRow} from '../parts/vector';
import {keysInUse, setRingVisibility, setVisibility} from '../parts/visibility';

/** A key and a value (batch, 1, keyHeads, width) to put into the ring first; 0 for none. */
let newKeys: usize = 0;
let newValues: usize = 0;
let newPositions: usize = 0;

/**
 * Sets the arguments for keys in a ring of `size` slots and one new token per row, whose key and value are yet to be
 * stored there. `positions` holds the position of each token, negative for a row without one. Keys and values in the
 * ring are of type `type`.
 */
export function setRing(
  q: usize,
  keys: usize,
  values: usize,
  heads: i32,
  keyHeads: i32,
  size: i32,
  width: i32,
  scale: f32,
  softCap: f32,
  window: i32,
  positions: usize,
  newKeys_: usize,
  newValues_: usize,
  type: i32,
): void {
  newKeys = newKeys_;
  newValues = newValues_;
  newPositions = positions;
  setAttention(q, keys, values, 1, heads, size, keyHeads, width, scale, softCap, type);
  setRingVisibility(size, window, positions);
}

/** Bytes of the partial result of one query head: maximum, total, sums. */
function partialBytes(): usize {
  return (<usize>(width + PARTIAL_HEADER)) << 2;
}

/** Address of the result of a part of the keys, for the first query head of a row of the batch. */
function partialAt(partials: usize, batch: i32, part: i32): usize {
  return partials + <usize>((batch * ATTENTION_PARTS + part) * heads) * partialBytes();
}

/**
 * How many keys form a part. Depends only on how many there are, not on the threads, so neither does the result. Small
 * parts keep several threads busy with few keys; for many keys, parts are whole blocks.
 */
function keysPerPart(used: i32): i32 {
  const most = MOST_KEYS * ATTENTION_PARTS;
  return used <= most / 4 ? MOST_KEYS / 2 : ((used + most - 1) / most) * MOST_KEYS;
}

function partsOf(batch: i32): i32 {
  const used = keysInUse(batch);
  const step = keysPerPart(used);
  return (used + step - 1) / step;
}

/** Attends to all keys for every query (batch, 1, heads, width). Threads share parts of the keys. */
export function attendParts(batch: i32, partials: usize): void {
  let all = 0;
  for (let b = 0; b < batch; b++) all += partsOf(b);
  let b = 0;
  let before = 0;
  while (claim(all, 1)) {
    for (let i = begin; i < end; i++) {
      while (i - before >= partsOf(b)) before += partsOf(b++);
      attendPart(b, i - before, partials);
    }
  }
}

function attendPart(b: i32, part: i32, partials: usize): void {
  const used = keysInUse(b);
  const from = part * keysPerPart(used);
  const to = min(used, from + keysPerPart(used));
  if (newKeys != 0) updateRing(b, from, to);
  const groups = heads / keyHeads;
  let at = partialAt(partials, b, part);
  for (let head = 0; head < heads;) {
    // As many heads as fit, all with the same key head.
    const count = min(mostRows, groups - (head % groups));
    attend(b, 0, 1, head, count, from, to);
    for (let i: usize = 0; i < <usize>count; i++, at += partialBytes()) {
      store<f32>(at, load<f32>(maxima + (i << 2)));
      store<f32>(at, load<f32>(totals + (i << 2)), 4);
      memory.copy(at + 8, sums + i * ((<usize>paddedWidth) << 2), (<usize>width) << 2);
    }
    head += count;
  }
}

/** Stores the new key and value of a row if their slot is among slots from … to − 1, which are about to be read. */
function updateRing(b: i32, from: i32, to: i32): void {
  const slot = load<i32>(newPositions + ((<usize>b) << 2)) % size;
  if (slot < from || slot >= to) return;
  const row = (<usize>(keyHeads * width)) << 2;
  const at = (<usize>b * <usize>size + <usize>slot) * ((<usize>(keyHeads * width)) << keyShift);
  storeRow(keys + at, newKeys + <usize>b * row, row);
  storeRow(values + at, newValues + <usize>b * row, row);
}

/** Stores float32 values in the type of the ring. */
function storeRow(to: usize, from: usize, bytes: usize): void {
  if (halves) roundRow(from, to, <i32>(bytes >> 2));
  else memory.copy(to, from, bytes);
}

/** Merges the results of all parts for query heads from … to − 1, counted over the batch. */
export function mergeParts(partials: usize, from: i32, to: i32, y: usize): void {
  const step = <usize>heads * partialBytes();
  for (let row = from; row < to; row++) {
    const first = partialAt(partials, row / heads, 0) + <usize>(row % heads) * partialBytes();
    const stop = first + <usize>partsOf(row / heads) * step;
    let maximum = NOTHING;
    for (let part = first; part < stop; part += step) maximum = max(maximum, load<f32>(part));
    let total: f32 = 0;
    const target = y + <usize>row * ((<usize>width) << 2);
    memory.fill(target, 0, (<usize>width) << 2);
    for (let part = first; part < stop; part += step) {
      const factor = exp4(f32x4.splat(load<f32>(part) - maximum));
      total += f32x4.extract_lane(factor, 0) * load<f32>(part, 4);
      addScaledRow(part + 8, factor, target, width);
    }
    scaleRow(target, f32x4.splat(total > 0 ? <f32>1 / total : 0), target, width);
  }
}

/** ATTENTION: see `src/ops/attention.ts`. */
export function attention(): void {
  const batch = argument(AttentionWord.batch);
  const y = pointer(AttentionWord.y);
  newKeys = 0;
  setAttention(
    pointer(AttentionWord.q),
    pointer(AttentionWord.k),
    pointer(AttentionWord.v),
    argument(AttentionWord.length),
    argument(AttentionWord.heads),
    argument(AttentionWord.size),
    argument(AttentionWord.keyHeads),
    argument(AttentionWord.width),
    floatArgument(AttentionWord.scale),
    floatArgument(AttentionWord.logitSoftCap),
    argument(AttentionWord.keyType),
  );
  setVisibility(AttentionWord.visibility, length, size);
  if (length == 1 && pointer(AttentionWord.partials) != 0) {
    attendParts(batch, pointer(AttentionWord.partials));
    barrier();
    while (claim(batch * heads, 1)) mergeParts(pointer(AttentionWord.partials), begin, end, y);
  } else {
    attendTokens(batch, y);
  }
}

/** With fewer full tiles per thread, tiles of half the size are balanced better. */
const TILES_PER_THREAD = 4;

/** How many tokens, each with `count` heads, a tile has, if each token belongs to `others` tiles. */
function tokensAtOnce(count: i32, others: i32): i32 {
  const tokens = mostRows / count;
  const tiles = others * ((length + tokens - 1) / tokens);
  return tiles >= TILES_PER_THREAD * threads ? tokens : max(1, tokens / 2);
}

/** Attends to all keys with tiles of tokens. Later tokens come first: they see more keys. */
function attendTokens(batch: i32, y: usize): void {
  const groups = heads / keyHeads;
  const count = min(groups, mostRows);
  const chunks = (groups + count - 1) / count;
  const tokens = tokensAtOnce(count, batch * keyHeads * chunks);
  const blocks = (length + tokens - 1) / tokens;
  const units = batch * keyHeads * chunks * blocks;
  while (claim(units, 1)) {
    for (let i = begin; i < end; i++) {
      const unit = units - 1 - i;
      const token = (unit % blocks) * tokens;
      const rest = unit / blocks;
      const chunk = rest % chunks;
      const head = ((rest / chunks) % keyHeads) * groups + chunk * count;
      const b = rest / chunks / keyHeads;
      const someTokens = min(tokens, length - token);
      const someHeads = min(count, groups - chunk * count);
      attend(b, token, someTokens, head, someHeads, 0, size);
      writeRows(y, b, token, someTokens, head, someHeads);
    }
  }
}

/** Finds pieces by their UTF-8 bytes. */

// Looked up once: this is the innermost loop, and in a sandbox, such as that of tests, access to globals is slow.
const {imul} = Math;

/** Of the hash FNV-1a. */
const SEED = 0x811c9dc5 | 0;
const PRIME = 0x01000193;

/**
 * A hash table over the bytes of the pieces in the model's file.
 *
 * A `Map` with string keys would need every piece as a string first, which makes it an order of magnitude slower to
 * build for a vocabulary of 262,144.
 */
export class PieceTable {
  /** Open addressing: id + 1 in each slot, 0 in empty ones. */
  private readonly slots: Int32Array;
  private readonly mask: number;
  private readonly longest: number;
  /** The first id that repeats the piece of a lower id, or -1. */
  readonly firstDuplicate: number;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly starts: Int32Array,
    private readonly ends: Int32Array,
  ) {
    let capacity = 16;
    while (capacity < starts.length * 2) capacity *= 2;
    this.slots = new Int32Array(capacity);
    this.mask = capacity - 1;
    let longest = 0;
    let firstDuplicate = -1;
    for (let id = 0; id < starts.length; id++) {
      const start = starts[id]!;
      const end = ends[id]!;
      if (end - start > longest) longest = end - start;
      const slot = this.slotOf(bytes, start, end);
      if (this.slots[slot] === 0) this.slots[slot] = id + 1;
      else if (firstDuplicate < 0) firstDuplicate = id;
    }
    this.longest = longest;
    this.firstDuplicate = firstDuplicate;
  }

  /** The id of the piece that is `text[start .. end]`, or -1. */
  find(text: Uint8Array, start: number, end: number): number {
    if (end - start > this.longest) return -1;
    return this.slots[this.slotOf(text, start, end)]! - 1;
  }

  /** Calls `visit` with each piece that the text has at `start`, the shortest first. */
  forEachPrefix(text: Uint8Array, start: number, visit: (id: number, end: number) => void): void {
    const last = Math.min(start + this.longest, text.length);
    let hash = SEED;
    for (let end = start + 1; end <= last; end++) {
      hash = imul(hash ^ text[end - 1]!, PRIME);
      const id = this.slots[this.slotAt(hash, text, start, end)]! - 1;
      if (id >= 0) visit(id, end);
    }
  }

  /** The slot of these bytes, or the empty slot where they belong. */
  private slotOf(text: Uint8Array, start: number, end: number): number {
    let hash = SEED;
    for (let i = start; i < end; i++) hash = imul(hash ^ text[i]!, PRIME);
    return this.slotAt(hash, text, start, end);
  }

  private slotAt(hash: number, text: Uint8Array, start: number, end: number): number {
    // FNV mixes its low bits poorly for short inputs, and the mask keeps only low bits.
    let slot = (hash ^ (hash >>> 15)) & this.mask;
    for (;;) {
      const entry = this.slots[slot]!;
      if (entry === 0 || this.equals(entry - 1, text, start, end)) return slot;
      slot = (slot + 1) & this.mask;
    }
  }

  private equals(id: number, text: Uint8Array, start: number, end: number): boolean {
    const from = this.starts[id]!;
    const length = end - start;
    if (this.ends[id]! - from !== length) return false;
    for (let i = 0; i < length; i++) if (this.bytes[from + i] !== text[start + i]) return false;
    return true;
  }
}

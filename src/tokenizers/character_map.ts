/** SentencePiece's normalization rules, such as "nmt_nfkc": a table from byte strings to their replacements. */
import {ValueError} from '../base/errors';

/**
 * The rules of a model, compiled by SentencePiece: the size of a trie in bytes, the trie as a double array, and the
 * replacements, each ended by a zero byte.
 */
export class CharacterMap {
  private readonly units: Uint32Array;
  private readonly replacements: Uint8Array;

  /** @throws ValueError if the bytes cannot be such rules. */
  constructor(compiled: Uint8Array) {
    const view = new DataView(compiled.buffer, compiled.byteOffset, compiled.byteLength);
    const size = compiled.length >= 4 ? view.getUint32(0, true) : 0;
    // At the end there must be a zero byte, which ends the last replacement.
    if (size === 0 || size % 4 !== 0 || 4 + size >= compiled.length || compiled.at(-1) !== 0) {
      throw new ValueError(
        `Expected rules of normalization as SentencePiece compiles them. Received: ${compiled.length} bytes with a ` +
          `trie of ${size} bytes. Fetch the vocabulary again.`,
      );
    }
    this.units = Uint32Array.from({length: size / 4}, (_, i) => view.getUint32(4 + 4 * i, true));
    this.replacements = compiled.subarray(4 + size);
  }

  /**
   * The longest rule for the text at `offset`: how many bytes it replaces, and with what. Undefined if there is none.
   */
  longestAt(text: Uint8Array, offset: number): {length: number; by: Uint8Array} | undefined {
    const {units} = this;
    // Zero outside the array, which is the label of no byte but zero, and then leads nowhere.
    const unit = (at: number) => units[at] ?? 0;
    const next = (value: number) => (value >>> 10) << ((value & 0x200) >>> 6);
    let node = next(unit(0));
    let length = 0;
    let value = 0;
    for (let i = offset; i < text.length; i++) {
      node ^= text[i]!;
      const found = unit(node);
      // The high bit marks a value, which has no label.
      if ((found & 0x800000ff) >>> 0 !== text[i]) break;
      node ^= next(found);
      if ((found >>> 8) & 1) {
        length = i + 1 - offset;
        value = unit(node) & 0x7fffffff;
      }
    }
    if (length === 0) return undefined;
    const end = this.replacements.indexOf(0, value);
    return {length, by: this.replacements.subarray(Math.min(value, this.replacements.length), Math.max(end, 0))};
  }
}

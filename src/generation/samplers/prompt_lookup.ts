/** Guesses from the text itself, for speculative decoding. */
import {type RowText} from '../decoder';

/**
 * Guesses that a text continues as it did before: finds the latest earlier occurrence of its last tokens, and proposes
 * the tokens that followed it. Prompt lookup decoding, https://github.com/apoorvumang/prompt-lookup-decoding.
 */
export class PromptLookup {
  constructor(
    private readonly rows: readonly RowText[],
    private readonly lookup: readonly [longest: number, shortest: number],
  ) {}

  async draft(counts: readonly number[]): Promise<number[][]> {
    return this.rows.map(({tokens}, row) => lookUp(tokens, this.lookup, counts[row]!));
  }

  /** Tokens from the text are always valid. */
  check(): void {}

  dispose(): void {}
}

/** `count` tokens that may follow, or none. If the text repeats itself up to its end, the repetition continues. */
export function lookUp(
  tokens: readonly number[],
  [longest, shortest]: readonly [longest: number, shortest: number],
  count: number,
): number[] {
  const end = tokens.length;
  for (let size = Math.min(longest, end - 1); size >= shortest && count > 0; size--) {
    for (let start = end - size - 1; start >= 0; start--) {
      let same = 0;
      while (same < size && tokens[start + same] === tokens[end - size + same]) same++;
      if (same < size) continue;
      const text = [...tokens];
      for (let i = 0; i < count; i++) text.push(text[start + size + i]!);
      return text.slice(end);
    }
  }
  return [];
}

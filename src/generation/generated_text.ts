/** The text of a row while its tokens are generated, up to a stop string. */

/** The parts of a preprocessor that decode tokens. */
export interface TextDecoding {
  readonly tokenizer: {decoder(): {push(id: number): string; flush(): string}};
  /** True for ids that have no text. */
  isSpecial(id: number): boolean;
}

/**
 * Turns tokens into final text: it returns neither half a character nor the start of a stop string that is completed
 * later. Joined, the results of `push` and `flush` end before the first stop string, however many tokens it spans.
 */
export class GeneratedText {
  /** True after a stop string: no more text follows. */
  ended = false;
  private readonly decoder: {push(id: number): string; flush(): string};
  /** Text held back because it may be the start of a stop string. */
  private held = '';
  private readonly stopStrings: readonly string[];

  /** @param hidden the id of a token that is left out of the new text. */
  constructor(
    private readonly decoding: TextDecoding,
    stopStrings: string | readonly string[] = [],
    private readonly hidden?: number,
  ) {
    this.stopStrings = typeof stopStrings === 'string' ? [stopStrings] : stopStrings;
    this.decoder = decoding.tokenizer.decoder();
  }

  /** The text of a prompt, which is not searched for stop strings. */
  prompt(ids: readonly number[]): string {
    return ids.map(id => (this.decoding.isSpecial(id) ? '' : this.decoder.push(id))).join('');
  }

  /** Adds the next token and returns the text that it completes, '' if none. */
  push(id: number): string {
    return this.ended || id === this.hidden || this.decoding.isSpecial(id) ? '' : this.release(this.decoder.push(id));
  }

  /** Ends the text and returns the part that was held back. */
  flush(): string {
    if (this.ended) return '';
    const text = this.release(this.decoder.flush());
    if (this.ended) return text;
    this.ended = true;
    return text + this.held;
  }

  private release(added: string): string {
    if (this.stopStrings.length === 0) return added;
    const text = this.held + added;
    const found = firstStop(text, this.stopStrings);
    if (found >= 0) {
      this.ended = true;
      return text.slice(0, found);
    }
    const kept = possibleStop(text, this.stopStrings);
    this.held = text.slice(kept);
    return text.slice(0, kept);
  }
}

/** Start of the stop string that is completed first; −1 for none. */
function firstStop(text: string, stopStrings: readonly string[]): number {
  let [start, end] = [-1, Infinity];
  for (const stop of stopStrings) {
    const at = text.indexOf(stop);
    if (at < 0) continue;
    // If two end at the same place, the longer one is used.
    if (at + stop.length < end || (at + stop.length === end && at < start)) [start, end] = [at, at + stop.length];
  }
  return start;
}

/** Start of the longest suffix that may be the beginning of a stop string; the length of the text if there is none. */
function possibleStop(text: string, stopStrings: readonly string[]): number {
  const longest = Math.max(...stopStrings.map(stop => stop.length)) - 1;
  for (let at = Math.max(0, text.length - longest); at < text.length; at++) {
    const end = text.slice(at);
    if (stopStrings.some(stop => stop.startsWith(end))) return at;
  }
  return text.length;
}

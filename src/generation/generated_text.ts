/** Text of a row as its tokens come, up to a stop string. */

/** What is needed of a tokenizer and a preprocessor. */
export interface TextDecoding {
  readonly tokenizer: {decoder(): {push(id: number): string; flush(): string}};
  /** Ids without text. */
  isSpecial(id: number): boolean;
}

/**
 * Turns tokens into text that is final: never half a character, and never the beginning of a stop string that then
 * completes. All that `push` and `flush` return, joined, ends before the first stop string, however many tokens it takes.
 */
export class GeneratedText {
  /** True behind a stop string: nothing more will come. */
  ended = false;
  private readonly decoder: {push(id: number): string; flush(): string};
  /** Text that may be the beginning of a stop string. */
  private held = '';

  constructor(
    private readonly decoding: TextDecoding,
    private readonly stopStrings: readonly string[] = [],
  ) {
    this.decoder = decoding.tokenizer.decoder();
  }

  /** Text of tokens that were given, in which no stop string is looked for. */
  prompt(ids: readonly number[]): string {
    return ids.map(id => (this.decoding.isSpecial(id) ? '' : this.decoder.push(id))).join('');
  }

  /** Takes the next token and returns the text that it completes, '' if none. */
  push(id: number): string {
    return this.ended || this.decoding.isSpecial(id) ? '' : this.release(this.decoder.push(id));
  }

  /** Ends the text: returns what was held back. */
  flush(): string {
    if (this.ended) return '';
    const text = this.release(this.decoder.flush());
    if (this.ended) return text;
    this.ended = true;
    return text + this.held;
  }

  private release(more: string): string {
    if (this.stopStrings.length === 0) return more;
    const text = this.held + more;
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

/** Where the stop string begins that is complete first; −1 for none. */
function firstStop(text: string, stopStrings: readonly string[]): number {
  let [start, end] = [-1, Infinity];
  for (const stop of stopStrings) {
    const at = text.indexOf(stop);
    if (at < 0) continue;
    // Of two that end together the longer one.
    if (at + stop.length < end || (at + stop.length === end && at < start)) [start, end] = [at, at + stop.length];
  }
  return start;
}

/** Where the longest end of a text begins that a stop string begins with; the length of the text for none. */
function possibleStop(text: string, stopStrings: readonly string[]): number {
  const longest = Math.max(...stopStrings.map(stop => stop.length)) - 1;
  for (let at = Math.max(0, text.length - longest); at < text.length; at++) {
    const end = text.slice(at);
    if (stopStrings.some(stop => stop.startsWith(end))) return at;
  }
  return text.length;
}

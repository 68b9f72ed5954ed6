/** Records when the tokens of a run arrived. */
export class Watch {
  #start = performance.now();
  #first;
  #last;
  #tokens = 0;

  /** Called when a token has arrived, or at the end of a run with the number of tokens. */
  arrived(tokens = 1) {
    this.#last = performance.now();
    this.#first ??= this.#last;
    this.#tokens += tokens;
  }

  /** @param promptTokens how many tokens this side has made of the prompt. */
  result(promptTokens, tokens = this.#tokens) {
    return {
      promptTokens,
      tokens,
      firstSeconds: (this.#first - this.#start) / 1000,
      tokensPerSecond: (1000 * (tokens - 1)) / (this.#last - this.#first),
    };
  }
}

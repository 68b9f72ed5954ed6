/** How a text ended. */

/**
 * Why a text ended: at a stop token or a stop string; at the maximum length; or earlier, because it was aborted or its
 * loop was left.
 */
export type FinishReason = 'stop' | 'length' | 'aborted';

/** Token counts. */
export interface Usage {
  /** Tokens in the prompt, including those that stand for images. */
  promptTokens: number;
  /** Tokens that were generated, including one that ends the text. */
  newTokens: number;
}

/** How a text ended, and its number of tokens. */
export interface Ending {
  /** Why the text ended. */
  finishReason: FinishReason;
  /** Number of tokens in the prompt and after it. */
  usage: Usage;
}

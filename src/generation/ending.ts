/** How a text ended. */

/**
 * Why a text ended: at a stop token or a stop string; at the largest length; or before either, since it was aborted or
 * its loop was left.
 */
export type FinishReason = 'stop' | 'length' | 'aborted';

/** Numbers of tokens. */
export interface Usage {
  /** Tokens in the prompt, with those that stand for images. */
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

/** Options and results of `generate` and `stream`, and the preprocessor that they need. */
import type * as tf from '@tensorflow/tfjs';
import {checkPositiveInteger} from '../base/checks';
import {describeNotA, show, ValueError} from '../base/errors';
import {type TokenLogprob, type TokenLogprobs} from '../generation/logprobs';
import {type PrefillProgress} from '../generation/prefill';
import {GenerationSession} from '../generation/session';

/** A preprocessor as generation sees it. */
export interface GenerationPreprocessor<P> {
  readonly sequenceLength: number;
  readonly tokenizer: {
    readonly startTokenId: number;
    readonly endTokenId: number;
    tokenize(text: string): number[];
    tokenToId(token: string): number;
    idToToken(id: number): string;
    detokenize(ids: readonly number[]): string;
    decoder(): {push(id: number): string; flush(): string};
  };
  /** Tokenizes prompts and prepares their images, which the caller disposes. */
  promptTokens(x: P, options: {sequenceLength?: number}): Promise<PromptTokens>;
  stripSpecial(ids: readonly number[]): number[];
  isSpecial(id: number): boolean;
}

/** Prompts as token ids, with their images. */
export interface PromptTokens {
  /** Token ids of each prompt, without padding. */
  tokens: number[][];
  /** True for one prompt that was not in a list. */
  scalar: boolean;
  /** The images of each prompt, (I, height, width, 3), or null. The caller disposes them. */
  images: (tf.Tensor4D | null)[];
  /** For each token of each prompt, true if it stands for a part of an image. */
  visionMask: boolean[][];
}

/** Options of `generate` and `stream`. */
export interface GenerateOptions {
  /**
   * Length of the prompt and the new text together, in tokens. Defaults to the session's `maxLength`, or without a
   * session to the preprocessor's sequence length.
   */
  maxLength?: number;
  /**
   * Token ids that end generation. "auto", the default: end of text and end of turn. Null: only `maxLength` ends it.
   */
  stopTokenIds?: 'auto' | readonly number[] | null;
  /**
   * Texts that end generation, independent of token boundaries. The result ends before the first of them. The prompt is
   * not searched.
   */
  stopStrings?: readonly string[];
  /** Return only the new text, without the prompt. Defaults to false for `generate`, to true for `stream`. */
  stripPrompt?: boolean;
  /** Stops generation, which then throws the signal's reason. */
  signal?: AbortSignal;
  /**
   * A result of `startSession`: the beginning that this prompt shares with the session's last text is not computed
   * again. Only for text, and for one prompt.
   */
  session?: GenerationSession<never, never>;
  /**
   * How many tokens of a prompt go through the model at once. Memory grows with this, not with the prompt. Defaults to
   * 512.
   */
  prefillChunk?: number;
  /** Called after each piece of a prompt, with the number of tokens read so far. */
  onPrefill?: (progress: PrefillProgress) => void;
}
export const GENERATE_OPTIONS = [
  'maxLength',
  'stopTokenIds',
  'stopStrings',
  'stripPrompt',
  'signal',
  'session',
  'prefillChunk',
  'onPrefill',
] as const;

/** Options of `generate` with log probabilities. */
export interface LogprobsOptions extends GenerateOptions {
  /**
   * Report the log probability of each new token, and of this many of the most probable tokens at its position, 0 or
   * more. They are the model's own, before temperature, penalties and anything else that the sampler applies.
   */
  logprobs: number;
}

/** A new token, or an alternative to it. */
export interface TextToken extends TokenLogprob {
  /** Text of this token, decoded on its own: part of a character becomes "\ufffd". */
  text: string;
}

/** The result of `generate` with `logprobs`. */
export interface TextWithLogprobs {
  /** The text that `generate` returns without `logprobs`. */
  text: string;
  /**
   * The new tokens, including one that ends the text, each with the most probable tokens at its position, best first.
   */
  tokens: (TextToken & {top: TextToken[]})[];
}

/** A text with its new tokens, each decoded on its own. */
export function withLogprobs(
  text: string,
  tokens: readonly TokenLogprobs[],
  tokenizer: {detokenize(ids: readonly number[]): string},
): TextWithLogprobs {
  const withText = (token: TokenLogprob): TextToken => ({...token, text: tokenizer.detokenize([token.id])});
  return {text, tokens: tokens.map(token => ({...withText(token), top: token.top.map(withText)}))};
}

/**
 * Checks options that text and token ids have in common.
 *
 * @throws ValueError on an unusable `signal` or `prefillChunk`.
 */
export function checkRunOptions({signal, prefillChunk}: Pick<GenerateOptions, 'signal' | 'prefillChunk'>): void {
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    const given: unknown = signal;
    const received = given instanceof AbortController ? 'an AbortController: pass its `signal`' : show(given);
    throw new ValueError(`Expected signal to be an AbortSignal. Received: ${received}.`);
  }
  if (prefillChunk !== undefined) checkPositiveInteger('generate', 'prefillChunk', prefillChunk);
}

/** @throws ValueError unless left out or a positive integer. */
export function checkedMaxLength({maxLength}: GenerateOptions): number | undefined {
  if (maxLength !== undefined) checkPositiveInteger('generate', 'maxLength', maxLength);
  return maxLength;
}

/** @throws ValueError unless left out or a session. */
export function checkSession(session: unknown): void {
  if (session === undefined || session instanceof GenerationSession) return;
  throw new ValueError(
    `Expected session to be a result of \`startSession\`. Received: ${describeNotA(GenerationSession, session)}.`,
  );
}

/** @throws ValueError unless left out or a list of texts. */
export function checkStopStrings(stopStrings: unknown): void {
  if (stopStrings === undefined) return;
  if (!Array.isArray(stopStrings) || !stopStrings.every(stop => typeof stop === 'string' && stop !== '')) {
    throw new ValueError(
      `Expected stopStrings to be a list of texts, none of them empty. Received: ${show(stopStrings)}.`,
    );
  }
}

/** @throws ValueError unless left out or an integer of at least 0. */
export function checkLogprobs(logprobs: unknown): void {
  if (logprobs === undefined || (Number.isInteger(logprobs) && (logprobs as number) >= 0)) return;
  throw new ValueError(
    `Expected logprobs to be the number of most probable tokens to report, 0 or more. ` +
      `Received: logprobs=${show(logprobs)}.`,
  );
}

/** @throws ValueError unless null or a list of token ids. */
export function checkedStopTokens(stopTokenIds: unknown): readonly number[] | null {
  if (stopTokenIds === null) return null;
  if (Array.isArray(stopTokenIds) && stopTokenIds.every(id => Number.isInteger(id) && id >= 0)) return stopTokenIds;
  throw new ValueError(
    `Expected stopTokenIds to be "auto", null or a list of token ids. Received: ${show(stopTokenIds)}.`,
  );
}

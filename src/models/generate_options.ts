/** Options and results of `generate` and `stream`, and the preprocessor that they need. */
import type * as tf from '@tensorflow/tfjs';
import {checkPositiveInteger} from '../base/checks';
import {describeNotA, show, ValueError} from '../base/errors';
import {type Ending} from '../generation/ending';
import {type TokenLogprob, type TokenLogprobs} from '../generation/logprobs';
import {type PrefillProgress} from '../generation/prefill';
import {SAMPLING_OPTIONS, type SamplingOptions} from '../generation/samplers/sampling_options';
import {GenerationSession} from '../generation/session';

/** The part of a preprocessor that generation uses. */
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
export interface GenerateOptions extends SamplingOptions {
  /**
   * Length of the prompt and the new text together, in tokens. Defaults to the session's `maxLength`, or without a
   * session to the preprocessor's sequence length.
   */
  maxLength?: number;
  /**
   * Maximum number of new tokens for each prompt, instead of `maxLength`. Prompts are then not cut, and only a session
   * limits the length of both together.
   */
  maxNewTokens?: number;
  /**
   * Token ids that end generation. "auto", the default: end of text and end of turn. Null: only `maxLength` ends it.
   */
  stopTokenIds?: 'auto' | readonly number[] | null;
  /**
   * A text that ends generation, or several, independent of token boundaries. The result ends before the first of them.
   * The prompt is not searched.
   */
  stopStrings?: string | readonly string[];
  /**
   * Return only the new text, without the prompt. Defaults to false for `generate`, to true for `stream` and for
   * conversations.
   */
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
  /**
   * Called once for each text when it has ended, was aborted or its loop was left, with the reason and the token
   * counts. Not called when the generation fails.
   */
  onFinish?: (ending: Ending, row: number) => void;
}
export const GENERATE_OPTIONS = [
  'maxLength',
  'maxNewTokens',
  'stopTokenIds',
  'stopStrings',
  'stripPrompt',
  'signal',
  'session',
  'prefillChunk',
  'onPrefill',
  'onFinish',
  ...SAMPLING_OPTIONS,
] as const;

/** Options of `generate` with log probabilities. */
export interface LogprobsOptions extends GenerateOptions {
  /**
   * Report the log probability of each new token, and of this many of the most probable tokens at its position, 0 or
   * more. They are the model's own, before temperature, penalties and anything else that the sampler applies.
   */
  logprobs: number;
}

/** Options of `generate` for reporting how each text ended. */
export interface DetailsOptions extends GenerateOptions {
  /** Return each text with the reason for its end and its token counts. */
  details: true;
}

/** The result of `generate` with `details`. */
export interface TextWithDetails extends Ending {
  /** The text that `generate` returns without `details`. */
  text: string;
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
 * @throws ValueError on unusable ones.
 */
export function checkRunOptions({
  signal,
  prefillChunk,
  onPrefill,
  onFinish,
}: Pick<GenerateOptions, 'signal' | 'prefillChunk' | 'onPrefill' | 'onFinish'>): void {
  for (const [name, value] of Object.entries({onPrefill, onFinish})) {
    if (value === undefined || typeof value === 'function') continue;
    throw new ValueError(`Expected ${name} to be a function. Received: ${show(value)}.`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    const given: unknown = signal;
    const received = given instanceof AbortController ? 'an AbortController: pass its `signal`' : show(given);
    throw new ValueError(`Expected signal to be an AbortSignal. Received: ${received}.`);
  }
  if (prefillChunk !== undefined) checkPositiveInteger('generate', 'prefillChunk', prefillChunk);
}

/**
 * Length of the longest prompt with its new text; undefined if no option sets it.
 *
 * @param longest number of tokens in the longest prompt.
 * @throws ValueError unless `maxLength` and `maxNewTokens` are left out or positive integers, and on both at once.
 */
export function checkedMaxLength(
  {maxLength, maxNewTokens, session}: GenerateOptions,
  longest: number,
): number | undefined {
  if (maxLength !== undefined) checkPositiveInteger('generate', 'maxLength', maxLength);
  if (maxNewTokens === undefined) return maxLength;
  checkPositiveInteger('generate', 'maxNewTokens', maxNewTokens);
  if (maxLength === undefined) return Math.min(session?.maxLength ?? Infinity, longest + maxNewTokens);
  throw new ValueError(
    'Expected `maxLength`, which counts the prompt, or `maxNewTokens`, which does not. ' +
      `Received: maxLength=${maxLength} and maxNewTokens=${maxNewTokens}. Leave out one of them.`,
  );
}

/** @throws ValueError unless left out or a session. */
export function checkSession(session: unknown): void {
  if (session === undefined || session instanceof GenerationSession) return;
  throw new ValueError(
    `Expected session to be a result of \`startSession\`. Received: ${describeNotA(GenerationSession, session)}.`,
  );
}

/** @throws ValueError unless left out, a text or a list of texts. */
export function checkStopStrings(stopStrings: unknown): void {
  if (stopStrings === undefined) return;
  const texts: unknown = typeof stopStrings === 'string' ? [stopStrings] : stopStrings;
  if (Array.isArray(texts) && texts.every(stop => typeof stop === 'string' && stop !== '')) return;
  throw new ValueError(
    `Expected stopStrings to be a text or a list of texts, none of them empty. Received: ${show(stopStrings)}.`,
  );
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
export function checkedStopTokens(stopTokenIds: unknown, vocabulary: number): readonly number[] | null {
  if (stopTokenIds === null) return null;
  if (Array.isArray(stopTokenIds) && stopTokenIds.every(id => Number.isInteger(id) && id >= 0 && id < vocabulary))
    return stopTokenIds;
  throw new ValueError(
    `Expected stopTokenIds to be "auto", null or a list of token ids in [0, ${vocabulary}). ` +
      `Received: ${show(stopTokenIds)}.`,
  );
}

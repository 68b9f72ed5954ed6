/** What `generate` and `stream` take and give, and what they need of a preprocessor. */
import type * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {type TokenLogprob} from '../generation/logprobs';
import {type PrefillProgress} from '../generation/prefill';
import {GenerationSession} from '../generation/session';

/** What generation needs of a preprocessor. */
export interface GenerationPreprocessor<P> {
  readonly sequenceLength: number;
  readonly tokenizer: {
    readonly endTokenId: number;
    detokenize(ids: readonly number[]): string;
    decoder(): {push(id: number): string; flush(): string};
  };
  /** Token ids of each prompt, its images, which the caller disposes, and which tokens stand for parts of them. */
  promptTokens(x: P, options: {sequenceLength?: number}): Promise<PromptTokens>;
  stripSpecial(ids: readonly number[]): number[];
  isSpecial(id: number): boolean;
}

/** Prompts as token ids, with their images. */
export interface PromptTokens {
  /** Token ids of each prompt, as long as it is. */
  tokens: number[][];
  /** True if they came as one prompt, not in a list. */
  scalar: boolean;
  /** The images of each prompt, (I, height, width, 3), or null. The caller disposes them. */
  images: (tf.Tensor4D | null)[];
  /** For each token of each prompt whether it stands for a part of an image. */
  visionMask: boolean[][];
}

export interface GenerateOptions {
  /** Length of prompt and new text together, in tokens. Defaults to the preprocessor's sequence length. */
  maxLength?: number;
  /**
   * Tokens behind which generation ends. "auto", the default: end of text and end of turn. Null: only at `maxLength`.
   */
  stopTokenIds?: 'auto' | readonly number[] | null;
  /**
   * Texts that end generation, wherever tokens begin and end: a text goes to the first of them, which is not part of it. They
   * are not looked for in the prompt.
   */
  stopStrings?: readonly string[];
  /** Only the new text, without that of the prompt. Defaults to false for `generate`, to true for `stream`. */
  stripPrompt?: boolean;
  /** Stops generation: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
  /** Holds what earlier prompts have in common with this one, see `startSession`; text of one prompt alone. */
  session?: GenerationSession<never, never>;
  /**
   * How many tokens of a prompt go through the model at once: memory grows with them, not with the prompt. Defaults to 512.
   */
  prefillChunk?: number;
  /** Told how much of the prompts is read, after each such piece. */
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

export interface LogprobsOptions extends GenerateOptions {
  /**
   * Tell how probable each new token was, and as many of the most probable in its place. They are the model's own
   * probabilities, before temperature, penalties and what else the sampler does.
   */
  logprobs: number;
}

/** A new token, or one in its place, with the text that it has alone: part of a character is "\ufffd". */
export interface TextToken extends TokenLogprob {
  text: string;
}

/** What `generate` gives with `logprobs`. */
export interface TextWithLogprobs {
  text: string;
  /** The new tokens, one that ends the text included, each with the most probable in its place, best first. */
  tokens: (TextToken & {top: TextToken[]})[];
}

/** @throws ValueError unless left out or a signal. */
export function checkSignal(signal: unknown): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  const advice = signal instanceof AbortController ? 'an AbortController: pass its `signal`' : show(signal);
  throw new ValueError(`Expected signal to be an AbortSignal. Received: ${advice}.`);
}

/** @throws ValueError unless left out or what `startSession` gave. */
export function checkSession(session: unknown): void {
  if (session === undefined || session instanceof GenerationSession) return;
  throw new ValueError(`Expected session to be what \`startSession\` gave. Received: ${show(session)}.`);
}

/** @throws ValueError unless left out or texts. */
export function checkStopStrings(stopStrings: unknown): void {
  if (stopStrings === undefined) return;
  if (!Array.isArray(stopStrings) || !stopStrings.every(stop => typeof stop === 'string' && stop !== '')) {
    throw new ValueError(`Expected stopStrings to be texts, none of them empty. Received: ${show(stopStrings)}.`);
  }
}

/** @throws ValueError unless left out or a whole number. */
export function checkLogprobs(logprobs: unknown): void {
  if (logprobs === undefined || (Number.isInteger(logprobs) && (logprobs as number) >= 0)) return;
  throw new ValueError(
    `Expected logprobs to be how many of the most probable tokens to tell, 0 or more. Received: logprobs=${show(logprobs)}.`,
  );
}

/** @throws ValueError unless null or ids. */
export function checkedStopTokens(stopTokenIds: unknown): readonly number[] | null {
  if (stopTokenIds === null) return null;
  if (Array.isArray(stopTokenIds) && stopTokenIds.every(id => Number.isInteger(id) && id >= 0)) return stopTokenIds;
  throw new ValueError(`Expected stopTokenIds to be "auto", null or token ids. Received: ${show(stopTokenIds)}.`);
}

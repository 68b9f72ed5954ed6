/** Results of the Python tokenizers, and helpers that edit the bytes of tokenizer models. */
import {createHash} from 'node:crypto';
import {fixtureBytes, fixtureJson} from './fixtures';

/** Results of `sentencepiece` with a vocabulary. */
export interface Expected {
  /** Text, ids, decoded text. */
  texts: [string, number[], string][];
  /** Ids, decoded text. */
  sequences: [number[], string][];
  /** Text, number of repetitions, number of ids, digest of the ids. */
  long: [string, number, number, string][];
}

/** Results of KerasHub's Gemma3Tokenizer with the small vocabulary. */
export interface KerasHubExpected {
  texts: string[];
  outputs: [{add_bos?: boolean; add_eos?: boolean; sequence_length?: number}, number[][]][];
  ids: Record<string, number>;
  unknown_token_id: number;
  tokens: string[];
  vocabulary_size: number;
  id_errors: [number, string][];
  missing_token_errors: [string, string][];
  special_tokens: string[];
  blind_special_tokens: string[];
}

/** `small.json`. */
export interface SmallExpected extends Expected {
  variants: {name: string; proto: string; texts: Expected['texts']; sequences: Expected['sequences']}[];
  kerashub: KerasHubExpected;
}

export function readExpected<T extends Expected>(name: string): T {
  return fixtureJson<T>(`tokenizer/${name}`);
}

export function readSmallVocabulary(): Uint8Array {
  return fixtureBytes('tokenizer/vocabulary.spm');
}

/** The digest of ids in `Expected.long`. */
export function digest(ids: readonly number[]): string {
  return createHash('sha256').update(ids.join(',')).digest('hex');
}

export function concatenate(...parts: (Uint8Array | readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flatMap(part => [...part]));
}

/** A bytes field of a protocol buffer, with fewer than 128 bytes. */
export function field(number: number, content: Uint8Array | readonly number[] | string): Uint8Array {
  const bytes = typeof content === 'string' ? new TextEncoder().encode(content) : content;
  return concatenate([...tag(number, 2), bytes.length], bytes);
}

/** An integer field of a protocol buffer, with a value from 0 to 127. */
export function numberField(number: number, value: number): Uint8Array {
  return concatenate([...tag(number, 0), value]);
}

function tag(number: number, wireType: number): number[] {
  const value = number * 8 + wireType;
  return value < 128 ? [value] : [(value & 127) | 128, value >> 7];
}

/** Replaces all occurrences of a text in `bytes` with another text of the same length. */
export function replaceText(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1').replaceAll(from, to);
  return new Uint8Array(Buffer.from(text, 'latin1'));
}

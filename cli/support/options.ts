/** Values of options, checked before anything is loaded. */
import {InvalidArgumentError} from 'commander';
import type {BackendName} from 'tfjs-gemma3';

export function positiveInteger(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError('Expected a whole number above 0.');
  }
  return value;
}

export function integer(text: string): number {
  const value = Number(text);
  if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('Expected a whole number.');
  return value;
}

export function positiveNumber(text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!(value > 0) || !Number.isFinite(value)) throw new InvalidArgumentError('Expected a number above 0.');
  return value;
}

export function probability(text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!(value > 0 && value <= 1)) throw new InvalidArgumentError('Expected a number above 0, at most 1.');
  return value;
}

/** For options that may be given more than once. */
export function collect(text: string, before: readonly string[] = []): string[] {
  if (text === '') throw new InvalidArgumentError('Expected a text that is not empty.');
  return [...before, text];
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) throw new InvalidArgumentError('Expected a whole number.');
  return value;
}

/** A number from 0 to 1. */
export function fraction(text: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (!(value >= 0 && value <= 1)) throw new InvalidArgumentError('Expected a number from 0 to 1.');
  return value;
}

/** A record, so that a backend which the library gains cannot be forgotten here. */
const backends: Record<BackendName, true> = {auto: true, simd: true, cpu: true};
export const BACKENDS = Object.keys(backends) as BackendName[];

/** How weights can rest. */
export const DTYPES = ['float32', 'bfloat16', 'int8', 'int4'] as const;

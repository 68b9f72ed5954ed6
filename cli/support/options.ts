/** Parsers for the values of options, and options that several commands share. */
import {InvalidArgumentError, Option} from 'commander';
import type {BackendName, CacheDtype, ConversionFormatInfo} from 'tfjs-gemma3';

/** Values that the package offers for options. */
export interface Choices {
  backends: readonly BackendName[];
  formats: readonly ConversionFormatInfo[];
}

/** The preset that ships with the package. */
export const TINY = 'gemma3_tiny';

/** Formats in which weights can be stored. */
export const DTYPES = ['float32', 'bfloat16', 'int8', 'int4'] as const;

/** Formats in which keys and values of a text can be stored. */
const CACHE_DTYPES: readonly CacheDtype[] = ['float32', 'bfloat16'];

export const presetOption = (): Option =>
  new Option(
    '--preset <preset>',
    `folder, URL or name of a preset, or a model on a hub (default: "${TINY}", which ships with the package)`,
  );

export const dtypeOption = (weights = 'weights', dtypes: readonly string[] = DTYPES): Option =>
  new Option('--dtype <dtype>', `format in which ${weights} are stored (default: the preset's)`).choices(dtypes);

export const cacheDtypeOption = (): Option =>
  new Option('--cache-dtype <dtype>', 'format of the keys and values of a text; bfloat16 takes half the memory')
    .choices(CACHE_DTYPES)
    .default('float32');

export const backendOption = (backends: readonly BackendName[]): Option =>
  new Option('--backend <name>', 'compute backend; "gemma3 doctor" shows which ones work')
    .choices(backends)
    .default('auto');

export const threadsOption = (): Option =>
  new Option(
    '--threads <number>',
    'number of threads of the backend simd (default: the number of cores, at most 8)',
  ).argParser(positiveInteger);

/** @param refuse must throw. */
export function refuseThreads(
  {threads, backend}: {threads?: number; backend: BackendName},
  refuse: (message: string) => never,
): void {
  if (threads === undefined || backend !== 'cpu') return;
  refuse("option '--threads' has no effect with '--backend cpu'. Leave out one of them.");
}

export const imageOrientationOption = (): Option =>
  new Option(
    '--image-orientation <how>',
    'turn images as their EXIF metadata says, or read them as they are stored (default: as the preset says, else "from-image")',
  ).choices(['from-image', 'none']);

function parseInteger(text: string, pattern: RegExp, least: number, expected: string): number {
  const value = Number(text);
  if (pattern.test(text) && value >= least && Number.isSafeInteger(value)) return value;
  throw new InvalidArgumentError(`Expected ${expected}.`);
}

export const positiveInteger = (text: string): number => parseInteger(text, /^\d+$/, 1, 'a whole number above 0');

export const wholeNumber = (text: string): number => parseInteger(text, /^\d+$/, 0, 'a whole number of at least 0');

export const integer = (text: string): number => parseInteger(text, /^-?\d+$/, -Infinity, 'a whole number');

function parseNumber(text: string, fits: (value: number) => boolean, expected: string): number {
  const value = text.trim() === '' ? NaN : Number(text);
  if (Number.isFinite(value) && fits(value)) return value;
  throw new InvalidArgumentError(`Expected ${expected}.`);
}

export const positiveNumber = (text: string): number => parseNumber(text, value => value > 0, 'a number above 0');

export const probability = (text: string): number =>
  parseNumber(text, value => value > 0 && value <= 1, 'a number above 0 and at most 1');

export const fraction = (text: string): number =>
  parseNumber(text, value => value >= 0 && value <= 1, 'a number from 0 to 1');

/** For options that may be repeated. */
export function collect(text: string, previous: readonly string[] = []): string[] {
  if (text === '') throw new InvalidArgumentError('Expected a text that is not empty.');
  return [...previous, text];
}

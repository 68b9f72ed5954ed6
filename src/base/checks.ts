/** Checks of arguments. Errors name the class, the argument and the value received. */
import {checkKeys, show, ValueError} from './errors';
import {isObject} from './json';

const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value);
const isSize = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 1;
const isPositive = (value: unknown) => isNumber(value) && value > 0;

const KINDS = {
  size: ['to be a positive integer', isSize],
  sizeOrNull: ['to be null or a positive integer', value => value === null || isSize(value)],
  positive: ['to be above 0', isPositive],
  positiveOrNull: ['to be null or above 0', value => value === null || isPositive(value)],
  rate: ['in [0, 1)', value => isNumber(value) && value >= 0 && value < 1],
  cacheDtype: ['to be "float32" or "bfloat16"', value => value === 'float32' || value === 'bfloat16'],
  flag: ['to be true or false', value => typeof value === 'boolean'],
  text: ['to be a string', value => typeof value === 'string'],
} satisfies Record<string, [string, (value: unknown) => boolean]>;

/** Kinds of argument values. */
export type ArgumentKind = keyof typeof KINDS;

/** @throws ValueError unless the value is of this kind. */
export function checkArgument(owner: string, name: string, value: unknown, kind: ArgumentKind): void {
  const [expected, fits] = KINDS[kind];
  if (!fits(value)) {
    throw new ValueError(`${owner} expected \`${name}\` ${expected}. Received: ${name}=${show(value)}.`);
  }
}

/** @throws ValueError unless the value is a whole number of at least 1. */
export function checkPositiveInteger(owner: string, name: string, value: unknown): void {
  checkArgument(owner, name, value, 'size');
}

/** @throws ValueError unless the arguments are one object: `new X()` and `new X(8)` are refused. */
export function checkObject(owner: string, args: unknown): asserts args is object {
  if (!isObject(args)) {
    throw new ValueError(`${owner} expected its arguments in one object: {name: value, …}. Received: ${show(args)}.`);
  }
}

/** @throws ValueError unless the arguments are one object with known keys only. */
export function checkArguments(owner: string, args: unknown, known: readonly string[]): asserts args is object {
  checkObject(owner, args);
  checkKeys(owner, args, known);
}

/** Describes valid indices for an error message. */
export interface IndexRange {
  /** What the indices are, such as "token ids". */
  what: string;
  /** Valid indices are at least 0 and below this. */
  limit: number;
  /** Where the limit comes from. */
  of: string;
  /** What to do. */
  advice: string;
}

/**
 * Checks indices of an array of this shape before they are followed. NaN is invalid as well.
 *
 * @throws ValueError naming the first invalid index and its place.
 */
export function checkIndices(
  indices: ArrayLike<number>,
  shape: readonly number[],
  {what, limit, of, advice}: IndexRange,
): void {
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!;
    if (index >= 0 && index < limit) continue;
    const place: number[] = [];
    for (let axis = shape.length - 1, rest = i; axis >= 0; axis--) {
      place.unshift(rest % shape[axis]!);
      rest = Math.floor(rest / shape[axis]!);
    }
    throw new ValueError(`Expected ${what} from 0 to ${limit - 1}, ${of}. Received: ${index} at [${place}]. ${advice}`);
  }
}

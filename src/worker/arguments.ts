/**
 * Arguments of a call in a form that messages can hold: without functions and signals, which each side handles itself.
 */
import {describeValue, ValueError} from '../base/errors';
import type {Place} from './messages';

/** Arguments for a message, and what was taken out of them. */
export interface Detached {
  args: unknown[];
  /** Functions whose names begin with "on". */
  callbacks: {place: Place; call: (...values: unknown[]) => unknown}[];
  signals: {place: Place; signal: AbortSignal}[];
}

/** Whether a value is an object without a class. */
export const isPlain = (value: unknown): value is Record<string, unknown> => {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
};

/** How deep functions are searched for: in an options object, and in an object in it, such as `callbacks` of `fit`. */
const DEPTH = 2;

/** Takes callbacks and signals out. Addresses become strings, since a message cannot hold a `URL`. */
export function detach(args: readonly unknown[]): Detached {
  const found: Detached = {args: [], callbacks: [], signals: []};
  const copy = (value: unknown, place: Place): unknown => {
    if (value instanceof URL) return value.href;
    if (!isPlain(value) || place.length > DEPTH) return value;
    const kept: Record<string, unknown> = {};
    for (const [key, one] of Object.entries(value)) {
      const here = [...place, key];
      if (typeof one === 'function' && /^on[A-Z]/.test(key)) {
        found.callbacks.push({
          place: here,
          call: (...values) => (one as (...all: unknown[]) => unknown).apply(value, values),
        });
      } else if (one instanceof AbortSignal) found.signals.push({place: here, signal: one});
      else if (one !== undefined) kept[key] = copy(one, here);
    }
    return kept;
  };
  found.args = args.map((arg, i) => copy(arg, [i]));
  return found;
}

/** Puts a value back into its place. */
export function attach(args: unknown[], place: Place, value: unknown): void {
  const [last, path] = [place.at(-1)!, place.slice(0, -1)];
  const owner = path.reduce<unknown>((one, key) => (one as Record<string | number, unknown>)[key], args);
  (owner as Record<string | number, unknown>)[last] = value;
}

/** @throws ValueError unless left out or an AbortSignal. */
export function checkSignal(signal: unknown): void {
  if (signal === undefined || signal instanceof AbortSignal) return;
  throw new ValueError(`Expected signal to be an AbortSignal. Received: ${describeValue(signal)}.`);
}

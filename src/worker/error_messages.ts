/** Errors as messages, and back: class, text, code and details stay the same. */
import {ContextFullError, OutOfMemoryError, ValueError} from '../base/errors';

/** An error as a message. */
export interface ErrorMessage {
  /** The nearest class that both sides know; undefined for a value that is not an error. */
  type: keyof typeof CLASSES | 'DOMException' | undefined;
  name: string;
  message: string;
  stack: string | undefined;
  /** Other properties, such as `code`; for a value that is not an error, the value. */
  details: Record<string, unknown>;
  cause: ErrorMessage | undefined;
}

/** Known classes, derived ones before their bases. */
const CLASSES = {OutOfMemoryError, ContextFullError, ValueError, TypeError, RangeError, SyntaxError, Error};

const canBeSent = (value: unknown): boolean => {
  try {
    structuredClone(value);
    return true;
  } catch {
    return false;
  }
};

export function errorMessage(error: unknown): ErrorMessage {
  const isException = typeof DOMException !== 'undefined' && error instanceof DOMException;
  if (!(error instanceof Error || isException)) {
    const details = canBeSent(error) ? {value: error} : {};
    return {type: undefined, name: 'Error', message: String(error), stack: undefined, details, cause: undefined};
  }
  const type = isException
    ? 'DOMException'
    : (Object.keys(CLASSES) as (keyof typeof CLASSES)[]).find(name => error instanceof CLASSES[name])!;
  const {name, message, stack, cause} = error as Error;
  const own = Object.entries(error).filter(([key, value]) => key !== 'name' && canBeSent(value));
  return {type, name, message, stack, details: Object.fromEntries(own), cause: causeOf(cause)};
}

const causeOf = (cause: unknown) => (cause === undefined ? undefined : errorMessage(cause));

/** The error in a message: an instance of the same class, with the Worker's stack. */
export function errorOf({type, name, message, stack, details, cause}: ErrorMessage): unknown {
  if (type === undefined) return 'value' in details ? details.value : new Error(message);
  if (type === 'DOMException') return new DOMException(message, name);
  const error = new Error(message, cause && {cause: errorOf(cause)});
  // The constructors of some of these classes do not take a message.
  Object.setPrototypeOf(error, CLASSES[type].prototype);
  if (error.name !== name) Object.defineProperty(error, 'name', {value: name, configurable: true, writable: true});
  if (stack !== undefined) Object.defineProperty(error, 'stack', {value: stack, configurable: true, writable: true});
  return Object.assign(error, details);
}

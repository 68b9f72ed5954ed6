/** Error classes that callers can distinguish. Messages say what was expected, what was received and what to do. */
import {formatBytes} from './format_bytes';
import {similarName} from './similar';

/** An argument or a file has a value that cannot be used. KerasHub raises `ValueError` in the same places. */
export class ValueError extends Error {
  override name = 'ValueError';
}

/** Details of an {@link OutOfMemoryError}, all in bytes. */
export interface MemoryFigures {
  /** Size of the tensor that did not fit. */
  bytes: number;
  /** Memory already in use. */
  used: number;
  /** Total memory available to the backend. */
  limit: number;
  /** Maximum size of a single allocation. */
  largest: number;
}

const ADVICE =
  'Load the model with a dtype of fewer bits, such as "bfloat16", use shorter inputs, or dispose of unused tensors.';

/** A backend has no memory left for a tensor. */
export class OutOfMemoryError extends ValueError {
  override name = 'OutOfMemoryError';

  constructor(
    readonly figures: MemoryFigures,
    advice = ADVICE,
  ) {
    const {bytes, used, limit, largest} = figures;
    const why =
      bytes > largest
        ? `one memory holds at most ${formatBytes(largest)}`
        : `${formatBytes(used)} of ${formatBytes(limit)} are in use, and no more memory is available`;
    super(`Expected memory for ${formatBytes(bytes)}. Received: ${why}. ${advice}`);
  }
}

/** What is full, and what helps. */
const FULL = {
  session: ['The session holds', 'a prompt of', 'Start one with a larger `maxLength`, or make the prompt shorter.'],
  conversation: ['The conversation holds', 'turns of', 'Start one with a larger `maxLength`, or `clear` this one.'],
  text: ['Prompt and new text together have at most', 'a prompt of', 'Raise `maxLength`, or make the prompt shorter.'],
} as const;

/** A prompt does not fit, or leaves no room for new text. Pass a larger `maxLength`, or shorten the prompt. */
export class ContextFullError extends ValueError {
  override name = 'ContextFullError';

  constructor(
    /** Tokens that would have to fit. */
    readonly tokens: number,
    /** Tokens that do fit. */
    readonly maxLength: number,
    what: keyof typeof FULL = 'session',
    detail = '',
  ) {
    const [holds, received, advice] = FULL[what];
    super(`${holds} ${maxLength} tokens${detail}. Received: ${received} ${tokens} tokens or more. ${advice}`);
  }
}

/** Undefined for an object that contains itself, or a bigint. */
function jsonOf(value: object): string | undefined {
  try {
    return JSON.stringify(value);
  } catch {
    return undefined;
  }
}

/** A value in an error message: short, and never `[object Object]`. */
export function show(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (value === undefined || value === null || typeof value !== 'object') return String(value);
  const text = jsonOf(value) ?? `an object with ${Object.keys(value).slice(0, 8).join(', ')}`;
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

/** A value after "Received: ": the class name of an instance, otherwise the text of {@link show}. */
export function describeValue(value: unknown): string {
  if (typeof value === 'function') return `the function ${value.name || 'without a name'}`;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return show(value);
  const {constructor} = value as {constructor?: unknown};
  return typeof constructor === 'function' && constructor !== Object ? classNameOf(constructor) : show(value);
}

/** Bundlers rename classes, but not the static `className` that tfjs needs. */
function classNameOf(constructor: {readonly name: string}): string {
  const {className} = constructor as {className?: unknown};
  return typeof className === 'string' ? className : constructor.name.replace(/^_+/, '');
}

/**
 * Describes a value that is not an instance of `expected`, after "Received: ". An instance of the same class from a second
 * copy of this package, whose classes are different ones, is named as such.
 */
export function describeNotA(expected: {readonly name: string}, value: unknown): string {
  const description = describeValue(value);
  if (description !== classNameOf(expected)) return description;
  return `a ${description} of another copy of tfjs-gemma3. ${ONE_COPY}`;
}

/** What to do about two copies of this package in one process. */
export const ONE_COPY = 'Load the package in one version, and everywhere with `import` or everywhere with `require`';

/** Problems in one line: the first eight, and how many more there are. */
export function listed(problems: readonly string[]): string {
  const rest = problems.length - 8;
  return `${problems.slice(0, 8).join('; ')}${rest > 0 ? `; and ${rest} more` : ''}`;
}

/**
 * ` Did you mean "hiddenDim"?`, or nothing if no known name is similar to one of these.
 *
 * @param others names that do not look similar, and the known names that they mean.
 */
export function didYouMean(
  names: readonly string[],
  known: readonly string[],
  others: Readonly<Record<string, string>> = {},
): string {
  const meant = (name: string) => {
    const other = Object.hasOwn(others, name) ? others[name] : undefined;
    return other !== undefined && known.includes(other) ? other : similarName(name, known);
  };
  const similar = new Set(names.map(meant).filter(name => name !== undefined));
  return similar.size ? ` Did you mean ${[...similar].map(name => `"${name}"`).join(', ')}?` : '';
}

/**
 * Refuses unknown keys, so that a misspelled option is not ignored silently.
 *
 * @throws ValueError naming the unknown keys, all known ones, and those that may have been meant.
 */
export function checkKeys(
  owner: string,
  received: object,
  known: readonly string[],
  others?: Readonly<Record<string, string>>,
): void {
  if (typeof received !== 'object' || received === null) {
    throw new ValueError(`${owner} expected an object with any of ${known.join(', ')}. Received: ${show(received)}.`);
  }
  const unknown = Object.keys(received).filter(key => !known.includes(key));
  if (unknown.length) {
    throw new ValueError(
      `${owner} has no argument${unknown.length > 1 ? 's' : ''} ${unknown.map(key => `"${key}"`).join(', ')}. ` +
        (known.length ? `Expected: ${known.join(', ')}.${didYouMean(unknown, known, others)}` : 'It takes none.'),
    );
  }
}

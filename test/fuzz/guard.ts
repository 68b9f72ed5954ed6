/**
 * Limits of what a parser may do with a damaged file: counts what it allocates and reads, and checks what it throws.
 */
import {type ByteSource, MemorySource, type PresetSource} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {isSafePath} from '../../src/base/safe_path';

/** A property that does not hold. */
export class Violation extends Error {}

const ARRAYS = ['Uint8Array', 'Int8Array', 'Uint16Array', 'Uint32Array', 'Int32Array', 'Float32Array', 'Float64Array'];

type Constructor = new (...args: unknown[]) => {byteLength: number};

/** Counts bytes of typed arrays, and elements of lists, while a parser runs. */
export class Allocations {
  private bytes = 0;
  private limit = Infinity;
  private readonly originals = new Map<string, unknown>();
  private readonly from = Array.from;

  /** Replaces the constructors of this realm. */
  install(): void {
    const scope = globalThis as unknown as Record<string, unknown>;
    for (const name of ARRAYS) {
      const original = scope[name] as Constructor & {BYTES_PER_ELEMENT: number};
      this.originals.set(name, original);
      scope[name] = new Proxy(original, {
        construct: (target, args: unknown[], newTarget) => {
          if (typeof args[0] === 'number') this.count(args[0] * original.BYTES_PER_ELEMENT);
          return Reflect.construct(target, args, newTarget) as object;
        },
      });
    }
    Array.from = ((items: {length?: number}, ...rest: [never?, never?]) => {
      if (typeof items?.length === 'number') this.count(8 * items.length);
      return this.from.apply(Array, [items, ...rest] as never);
    }) as typeof Array.from;
  }

  uninstall(): void {
    for (const [name, original] of this.originals) (globalThis as unknown as Record<string, unknown>)[name] = original;
    Array.from = this.from;
  }

  /** Restarts the count; more than `limit` bytes are a violation. */
  start(limit: number): void {
    this.bytes = 0;
    this.limit = limit;
  }

  get total(): number {
    return this.bytes;
  }

  private count(bytes: number): void {
    this.bytes += Number.isFinite(bytes) ? bytes : 0;
    if (this.bytes <= this.limit) return;
    const {limit} = this;
    this.limit = Infinity;
    throw new Violation(`allocates ${this.bytes} bytes, where ${limit} are enough`);
  }
}

/** A file in memory that is read in a bounded number of steps. */
export function countedSource(name: string, bytes: Uint8Array): ByteSource {
  const memory = new MemorySource(name, bytes);
  let steps = 0;
  let read = 0;
  return {
    name,
    size: bytes.length,
    readInto: (offset, target) => {
      read += target.length;
      if (++steps > 20_000) throw new Violation(`reads ${steps} times`);
      if (read > 100 * bytes.length + 2 ** 24) throw new Violation(`reads ${read} bytes of ${bytes.length}`);
      return memory.readInto(offset, target);
    },
    close: async () => {},
  };
}

/** A folder in memory that allows only requests for files below it. */
export function guardedPreset(files: ReadonlyMap<string, Uint8Array>): PresetSource {
  const check = (path: string) => {
    if (!isSafePath(path)) throw new Violation(`asks for ${JSON.stringify(path)}, which is outside the folder`);
  };
  return {
    name: 'fuzzed',
    has: async path => {
      check(path);
      return files.has(path);
    },
    open: async path => {
      check(path);
      const bytes = files.get(path);
      if (!bytes) throw new ValueError(`Expected file "${path}" in "fuzzed". Received: a preset without it.`);
      return countedSource(path, bytes);
    },
    list: async () => [...files.keys()].filter(path => !path.includes('/')),
  };
}

/** Whether an error is one of this package: a ValueError, or an Error that says what was expected. */
export function isOurs(error: unknown): boolean {
  if (error instanceof ValueError) return true;
  if (!(error instanceof Error) || error instanceof Violation) return false;
  const isPlain = error.constructor === Error || error.constructor.name === 'UnsupportedFeature';
  return isPlain && /expected[^]*received/i.test(error.message) && !error.message.startsWith('internal');
}

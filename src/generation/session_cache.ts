/** A cache that knows which tokens it holds. */
import type * as tf from '@tensorflow/tfjs';
import {type DecoderCache, type NewTokens, type Prompt, type StepsAhead} from './decoder';

/** A token in comparable form: its id, or for an image token the image and the part that it stands for. */
export type HeldToken = number | string;

/** How many tokens two rows have in common at the start. */
export function commonLength(a: readonly HeldToken[], b: readonly HeldToken[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length += 1;
  return length;
}

/** A 64-bit hash of pixels: two different images have the same hash with a probability of 2⁻⁶⁴. */
function digest(pixels: Float32Array): string {
  const bits = new Int32Array(pixels.buffer, pixels.byteOffset, pixels.length);
  let [a, b] = [0x811c9dc5, 0x2f0b4c47];
  for (let i = 0; i < bits.length; i++) {
    a = Math.imul(a ^ bits[i]!, 0x01000193);
    // A multiplication carries only towards the high bits, so they are mixed back into the low ones.
    a ^= a >>> 15;
    b = Math.imul(b + bits[i]!, 0x85ebca6b);
    b ^= b >>> 13;
  }
  return `${(a >>> 0).toString(16)}.${(b >>> 0).toString(16)}`;
}

/**
 * The tokens of a prompt in comparable form. Image tokens are identified by the pixels of their image, so it does not
 * matter which tensor holds them.
 */
export async function heldTokens({tokens, images, visionMask}: Prompt): Promise<HeldToken[]> {
  const parts = visionMask?.filter(Boolean).length ?? 0;
  if (!images || parts === 0) return [...tokens];
  const count = images.shape[0];
  const pixels = (await images.data()) as Float32Array;
  const size = pixels.length / count;
  const digests = Array.from({length: count}, (_, i) => digest(pixels.subarray(i * size, (i + 1) * size)));
  let next = 0;
  return tokens.map((token, t) => {
    if (!visionMask![t]) return token;
    const image = Math.floor((next * count) / parts);
    return `${digests[image]}/${next++ - (image * parts) / count}`;
  });
}

/** Wraps a model's cache; `dispose` returns it to the session, which keeps it. */
export class SessionCache implements DecoderCache {
  /** The tokens of the current prompt, in comparable form. */
  prompt: readonly HeldToken[] = [];
  /** True after an operation failed halfway: the blocks may hold different tokens. */
  broken = false;
  onDispose: () => void = () => {};

  constructor(
    readonly inner: DecoderCache,
    public rows: HeldToken[][],
  ) {}

  get lengths(): readonly number[] {
    return this.inner.lengths;
  }

  /** Runs the model, which adds tokens to the cache, and remembers them. */
  add<T extends tf.Tensor>(tokens: NewTokens, run: (inner: DecoderCache) => T): T {
    this.broken = true;
    const result = run(this.inner);
    this.added(tokens);
    return result;
  }

  /** As `add`, in steps. If the loop is left before the last step, the cache forgets the tokens, if possible. */
  *addSteps<T>(tokens: NewTokens, steps: (inner: DecoderCache) => Generator<void, T>): Generator<void, T> {
    const before = [...this.lengths];
    this.broken = true;
    let left = true;
    try {
      const result = yield* steps(this.inner);
      this.added(tokens);
      return result;
    } catch (error) {
      left = false;
      throw error;
    } finally {
      if (left && this.broken && this.inner.canTruncate(before)) {
        this.inner.truncate(before);
        this.broken = false;
      }
    }
  }

  /** Remembers tokens that the model has added to the cache, one per row; null for a row without one. */
  hold(tokens: readonly (number | null)[]): void {
    this.rows.forEach((held, row) => {
      if (tokens[row] !== null) held.push(this.prompt[held.length] ?? tokens[row]!);
    });
  }

  private added({rows, counts}: NewTokens): void {
    this.broken = false;
    this.rows.forEach((held, row) => {
      for (let t = 0; t < counts[row]!; t++) held.push(this.prompt[held.length] ?? rows[row]![t]!);
    });
  }

  canTruncate(lengths: readonly number[]): boolean {
    return this.inner.canTruncate(lengths);
  }

  truncate(lengths: readonly number[]): void {
    this.inner.truncate(lengths);
    this.rows.forEach((held, row) => held.splice(lengths[row]!));
  }

  select(rows: readonly number[]): void {
    this.broken = true;
    this.inner.select(rows);
    this.broken = false;
    this.rows = rows.map(row => [...this.rows[row]!]);
  }

  copy(): SessionCache {
    return new SessionCache(
      this.inner.copy(),
      this.rows.map(row => [...row]),
    );
  }

  dispose(): void {
    this.onDispose();
  }
}

/** The same steps, whose tokens the session's cache remembers. */
export function aheadInSession(ahead: StepsAhead): StepsAhead<SessionCache> {
  let cache: SessionCache | undefined;
  let last: number[] = [];
  return {
    mostSteps: ahead.mostSteps,
    start(rows, own) {
      cache = own;
      last = rows.map(({tokens}) => tokens.at(-1)!);
      ahead.start(rows, own.inner);
    },
    async run(steps) {
      const tokens = await ahead.run(steps);
      // Afterwards, the session has removed the tokens that were not read.
      steps.forEach(({active}, i) => {
        cache?.hold(active.map((takesPart, row) => (takesPart ? last[row]! : null)));
        active.forEach((takesPart, row) => takesPart && (last[row] = tokens[i * active.length + row]!));
      });
      return tokens;
    },
    dispose() {
      cache = undefined;
      ahead.dispose();
    },
  };
}

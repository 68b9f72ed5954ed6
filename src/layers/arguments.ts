/**
 * Argument tables. A class lists each of its arguments once, with its kind and its default. The accepted names, the
 * checks and the complete configuration follow from that table.
 */
import {type ArgumentKind, checkArgument} from '../base/checks';
import {type LayerArgs} from './layer';

/** The TypeScript type of each argument kind in `base/checks.ts`. */
interface KindTypes extends Record<ArgumentKind, unknown> {
  size: number;
  sizeOrNull: number | null;
  positive: number;
  positiveOrNull: number | null;
  rate: number;
  flag: boolean;
  text: string;
}

/** A layer's own arguments, without those of every layer. */
export type OwnArgs<A extends LayerArgs> = Omit<A, keyof LayerArgs>;

/** Kinds whose type is exactly `T`. */
type KindFor<T> = {[K in ArgumentKind]: [T, KindTypes[K]] extends [KindTypes[K], T] ? K : never}[ArgumentKind];

type Row<T, Optional> = Optional extends true
  ? readonly [kind: KindFor<T>, fallback: T]
  : readonly [kind: KindFor<T>, fallback?: T];

/**
 * One row per argument of `A`: its kind, and its default if it can be left out. Declare it with `satisfies`, so that
 * the compiler checks it against the interface that documents the arguments.
 *
 * @example
 * interface PoolingArgs {size: number; strides?: number; padded?: boolean}
 * const ARGUMENTS = {
 *   size: ['size'],
 *   strides: ['size', 1],
 *   padded: ['flag', false],
 * } satisfies ArgumentTable<PoolingArgs>;
 */
export type ArgumentTable<A> = {
  readonly [K in keyof A]-?: Row<Required<A>[K], Record<never, never> extends Pick<A, K> ? true : false>;
};

type AnyTable = Readonly<Record<string, readonly [kind: ArgumentKind, fallback?: unknown]>>;

/** The names of a table's arguments. */
export function namesOf<T extends AnyTable>(table: T): (keyof T & string)[] {
  return Object.keys(table);
}

/** The entries of an object that are not undefined, so that they can override others. */
export function defined<T extends object>(values: T): Partial<T> {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as Partial<T>;
}

/* eslint-disable @typescript-eslint/no-explicit-any -- the only parameters that TypeScript lets a mixin have */
type AbstractClass<T> = abstract new (...args: any[]) => T;
/* eslint-enable @typescript-eslint/no-explicit-any */

/**
 * A base class for layers and models with a `config`: each argument in it is also an attribute, `layer.headDim` for
 * `layer.config.headDim`, as in Keras.
 *
 * @param names the arguments.
 */
export function withAttributes<B extends AbstractClass<object>, A extends object>(
  base: B,
  names: readonly (keyof A & string)[],
): B & AbstractClass<Readonly<A>> {
  abstract class WithAttributes extends base {
    declare readonly config: A;
  }
  for (const name of names) {
    Object.defineProperty(WithAttributes.prototype, name, {
      get(this: WithAttributes) {
        return this.config[name];
      },
      configurable: true,
    });
  }
  return WithAttributes as unknown as B & AbstractClass<Readonly<A>>;
}

/** Picks the named values from an object, for example the arguments that a layer passes on to a sub-layer. */
export function pick<V extends object, K extends keyof V>(values: V, names: readonly K[]): Pick<V, K> {
  return Object.fromEntries(names.map(name => [name, values[name]])) as Pick<V, K>;
}

/**
 * Returns the arguments listed in a table, with defaults for those that are null or left out.
 *
 * @throws ValueError naming the first argument that is missing or of the wrong kind.
 */
export function completeArguments<T extends AnyTable>(
  owner: string,
  args: object,
  table: T,
): {[K in keyof T]: KindTypes[T[K][0]]} {
  const given = args as Record<string, unknown>;
  const complete = Object.entries(table).map(([name, [kind, fallback]]) => {
    const value = given[name] ?? fallback;
    checkArgument(owner, name, value, kind);
    return [name, value];
  });
  return Object.fromEntries(complete) as {[K in keyof T]: KindTypes[T[K][0]]};
}

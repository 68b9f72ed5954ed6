/** Computes the values of tfjs' initializers in pieces: finds the distribution and draws random numbers from it. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../base/shapes';
import {type Initializer} from './initializers';
import {RandomNumbers} from './random';

type Distribution =
  | {kind: 'constant'; value: number}
  | {kind: 'uniform'; low: number; high: number}
  | {kind: 'normal'; mean: number; stddev: number; limit: number};

type Config = Record<string, number> & {mode?: string; distribution?: string};

/** Values further than this many standard deviations from the mean are drawn again, as tfjs does. */
const TRUNCATED = 2;

/** Numbers of inputs and outputs of a kernel as tfjs counts them, regardless of what its axes mean. */
function fans(shape: readonly number[]): [fanIn: number, fanOut: number] {
  if (shape.length < 2 || shape.length > 5) {
    const root = Math.sqrt(sizeOf(shape));
    return [root, root];
  }
  const receptive = sizeOf(shape.slice(0, -2));
  return [shape.at(-2)! * receptive, shape.at(-1)! * receptive];
}

function scaled({scale, mode, distribution}: Config, shape: readonly number[]): Distribution {
  const [fanIn, fanOut] = fans(shape);
  const fan = mode === 'fanIn' ? fanIn : mode === 'fanOut' ? fanOut : (fanIn + fanOut) / 2;
  const variance = scale! / Math.max(1, fan);
  if (distribution === 'uniform') {
    const limit = Math.sqrt(3 * variance);
    return {kind: 'uniform', low: -limit, high: limit};
  }
  return {kind: 'normal', mean: 0, stddev: Math.sqrt(variance), limit: TRUNCATED};
}

/** Distributions by tfjs class name. The Glorot, He and LeCun initializers have the class name `VarianceScaling`. */
const DISTRIBUTIONS: Record<string, (config: Config, shape: readonly number[]) => Distribution> = {
  Zeros: () => ({kind: 'constant', value: 0}),
  Ones: () => ({kind: 'constant', value: 1}),
  Constant: ({value}) => ({kind: 'constant', value: value!}),
  RandomUniform: ({minval, maxval}) => ({kind: 'uniform', low: minval!, high: maxval!}),
  RandomNormal: ({mean, stddev}) => ({kind: 'normal', mean: mean!, stddev: stddev!, limit: Infinity}),
  TruncatedNormal: ({mean, stddev}) => ({kind: 'normal', mean: mean!, stddev: stddev!, limit: TRUNCATED}),
  VarianceScaling: scaled,
};

/** Fills `out` with the next values of a weight, in logical order. */
export type Fill = (out: Float32Array) => void;

/**
 * Returns a function that computes an initializer's values for a weight of this shape, in pieces of any length. The
 * distribution is the one in tfjs, but the numbers are not: a seed gives the same numbers each time, but not those of
 * `apply`. Returns undefined for an initializer that is not part of tfjs: its `apply` computes all values at once.
 */
export function initialValues(initializer: Initializer, shape: readonly number[]): Fill | undefined {
  const name = initializer.getClassName();
  const registered = tf.serialization.SerializationMap.getMap().classNameMap[name]?.[0] as
    {prototype: Initializer} | undefined;
  // A user's class may inherit the name of a tfjs class but override `apply`.
  if (!Object.hasOwn(DISTRIBUTIONS, name) || registered?.prototype.apply !== initializer.apply) return undefined;
  const config = initializer.getConfig() as Config;
  const distribution = DISTRIBUTIONS[name]!(config, shape);
  if (distribution.kind === 'constant') return out => void out.fill(distribution.value);
  const numbers = new RandomNumbers(config.seed);
  if (distribution.kind === 'uniform') return out => numbers.uniform(out, distribution.low, distribution.high);
  return out => numbers.normal(out, distribution.mean, distribution.stddev, distribution.limit);
}

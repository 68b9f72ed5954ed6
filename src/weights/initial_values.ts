/** Values of initializers in pieces: which distribution an initializer of tfjs stands for, and numbers from it. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../base/shapes';
import {type Initializer} from './initializers';
import {RandomNumbers} from './random';

type Distribution =
  | {kind: 'constant'; value: number}
  | {kind: 'uniform'; low: number; high: number}
  | {kind: 'normal'; mean: number; stddev: number; limit: number};

type Config = Record<string, number> & {mode?: string; distribution?: string};

/** tfjs draws values of truncated distributions again beyond this many standard deviations. */
const TRUNCATED = 2;

/** Inputs and outputs of a kernel as tfjs counts them, whatever the kernel's axes mean. */
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

/** By class name in tfjs. Glorot's, He's and LeCun's say that they are `VarianceScaling`. */
const DISTRIBUTIONS: Record<string, (config: Config, shape: readonly number[]) => Distribution> = {
  Zeros: () => ({kind: 'constant', value: 0}),
  Ones: () => ({kind: 'constant', value: 1}),
  Constant: ({value}) => ({kind: 'constant', value: value!}),
  RandomUniform: ({minval, maxval}) => ({kind: 'uniform', low: minval!, high: maxval!}),
  RandomNormal: ({mean, stddev}) => ({kind: 'normal', mean: mean!, stddev: stddev!, limit: Infinity}),
  TruncatedNormal: ({mean, stddev}) => ({kind: 'normal', mean: mean!, stddev: stddev!, limit: TRUNCATED}),
  VarianceScaling: scaled,
};

/** Puts the next values of a weight, in logical order, into `out`. */
export type Fill = (out: Float32Array) => void;

/**
 * The values that an initializer gives a weight of this shape, to be taken in pieces of any length. The distribution is
 * that of tfjs, the numbers are not: a seed gives the same ones each time, but others than `apply` does. Undefined for
 * an initializer that is not tfjs' own: that is asked for all values at once.
 */
export function initialValues(initializer: Initializer, shape: readonly number[]): Fill | undefined {
  const name = initializer.getClassName();
  const own = tf.serialization.SerializationMap.getMap().classNameMap[name]?.[0] as
    {prototype: Initializer} | undefined;
  // A class of somebody else may inherit the name; what it applies is its own.
  if (!Object.hasOwn(DISTRIBUTIONS, name) || own?.prototype.apply !== initializer.apply) return undefined;
  const config = initializer.getConfig() as Config;
  const distribution = DISTRIBUTIONS[name]!(config, shape);
  if (distribution.kind === 'constant') return out => void out.fill(distribution.value);
  const numbers = new RandomNumbers(config.seed);
  if (distribution.kind === 'uniform') return out => numbers.uniform(out, distribution.low, distribution.high);
  return out => numbers.normal(out, distribution.mean, distribution.stddev, distribution.limit);
}

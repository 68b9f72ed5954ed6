/** Optimizers and learning rate schedules with the names and results of Keras. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../../base/errors';
import {Adam, AdamW} from './adam';
import {SGD} from './sgd';

export {Adam, type AdamArgs, AdamW} from './adam';
export {Optimizer, type OptimizerArgs} from './optimizer';
export {
  CosineDecay,
  type CosineDecayArgs,
  LearningRateSchedule,
  PolynomialDecay,
  type PolynomialDecayArgs,
} from './schedules';
export {SGD, type SGDArgs} from './sgd';

const BY_NAME = {
  /** The default of KerasHub's `CausalLM.compile`. */
  auto: () => new Adam({learningRate: 2e-5}),
  adam: () => new Adam(),
  adamw: () => new AdamW(),
  sgd: () => new SGD(),
};

export type OptimizerName = keyof typeof BY_NAME;

/**
 * A new optimizer with this name and Keras' defaults, or the given optimizer itself.
 *
 * @throws ValueError on anything else.
 */
export function get(optimizer: unknown): tf.Optimizer {
  if (optimizer instanceof tf.Optimizer) return optimizer;
  if (typeof optimizer === 'string' && Object.hasOwn(BY_NAME, optimizer)) return BY_NAME[optimizer as OptimizerName]();
  const names = Object.keys(BY_NAME).map(name => `"${name}"`);
  throw new ValueError(
    `Expected \`optimizer\` as one of ${names.join(', ')}, as an instance of a class in \`optimizers\` or as a ` +
      `tf.Optimizer. Received: ${show(optimizer)}.`,
  );
}

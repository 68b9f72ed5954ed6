/** Optimizers and learning rates with Keras' numbers. */
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

const MAKERS = {
  /** What KerasHub's `CausalLM` compiles with. */
  auto: () => new Adam({learningRate: 2e-5}),
  adam: () => new Adam(),
  adamw: () => new AdamW(),
  sgd: () => new SGD(),
};

export type OptimizerName = keyof typeof MAKERS;

/**
 * An optimizer by name, with Keras' arguments, or the one that is given.
 *
 * @throws ValueError on anything else.
 */
export function get(optimizer: unknown): tf.Optimizer {
  if (optimizer instanceof tf.Optimizer) return optimizer;
  if (typeof optimizer === 'string' && Object.hasOwn(MAKERS, optimizer)) return MAKERS[optimizer as OptimizerName]();
  const names = Object.keys(MAKERS).map(name => `"${name}"`);
  throw new ValueError(
    `Expected \`optimizer\` as one of ${names.join(', ')}, as one of the class \`optimizers\` or as a tf.Optimizer. ` +
      `Received: ${show(optimizer)}.`,
  );
}

/** The common part of callbacks that change the learning rate. */
import * as tf from '@tensorflow/tfjs';
import {describeValue, ValueError} from '../../base/errors';

type WithRate = tf.Optimizer & {learningRate?: unknown; setLearningRate?(rate: number): void};

/** The learning rate of an optimizer of this package or of tfjs. */
export function readRate(owner: string, optimizer: tf.Optimizer | undefined): number {
  const rate = (optimizer as WithRate | undefined)?.learningRate;
  if (typeof rate === 'number') return rate;
  throw new ValueError(
    `${owner} expected an optimizer with a learning rate. Received: ${describeValue(optimizer)}. Compile the model with ` +
      'one of `optimizers`.',
  );
}

/** @throws ValueError if the rate of the optimizer follows a schedule. */
export function writeRate(optimizer: tf.Optimizer, rate: number): void {
  const own = optimizer as WithRate;
  if (own.setLearningRate) own.setLearningRate(rate);
  else own.learningRate = rate;
}

/** The learning rate as Keras logs it. */
export const rateLog = (optimizer: tf.Optimizer): Record<string, number> => ({
  learning_rate: readRate('The training loop', optimizer),
});

/** The model as these callbacks see it. */
export interface CallbackModel {
  stopTraining: boolean;
  optimizer?: tf.Optimizer;
  readonly trainableWeights: tf.LayerVariable[];
  saveWeights?(path: string): Promise<void>;
  saveToPreset?(path: string): Promise<void>;
}

/** A callback of tfjs whose model is known to it. */
export abstract class ModelCallback extends tf.Callback {
  protected get trained(): CallbackModel {
    return this.model as unknown as CallbackModel;
  }
}

/** A callback that changes the learning rate. The rate of each epoch is logged as "learning_rate", as in Keras. */
export abstract class RateCallback extends ModelCallback {}

/** Numbers by name. With tfjs' own `fit`, some are scalars that are still being computed. */
export async function numbersOf(logs: Record<string, unknown> | undefined): Promise<Record<string, number>> {
  const entries = Object.entries(logs ?? {}).map(async ([name, value]): Promise<[string, number]> => [
    name,
    value instanceof tf.Tensor ? (await value.data())[0]! : (value as number),
  ]);
  return Object.fromEntries(await Promise.all(entries));
}

/** Checks before a run: the weights must be trainable, and the same ones as before. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../src';
import {TrainableWeights} from '../../src/training/trainable_weights';
import {Weight} from '../../src/weights/weight';

const weightOf = (name: string) => new Weight([1], name, tf.initializers.zeros());

test('accepts the same weights again, and others only after a reset', () => {
  const [a, b] = [weightOf('a'), weightOf('b')];
  const trained = new TrainableWeights();
  trained.check([a, b]);
  trained.check([a, b]);
  expect(() => trained.check([b, a])).toThrow(ValueError);
  expect(() => trained.check([a])).toThrow(
    'Expected the 2 weights that the optimizer has trained since `compile`. Received 1 weights, not the same ones.',
  );
  trained.reset();
  trained.check([b, a]);
});

test('refuses a model without trainable weights, and does not remember it', () => {
  const trained = new TrainableWeights();
  expect(() => trained.check([])).toThrow('Expected weights to train.');
  trained.check([weightOf('c')]);
});

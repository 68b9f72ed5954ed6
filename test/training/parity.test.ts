/** Losses, accuracies and weights, step by step, against Python KerasHub. */
import * as tf from '@tensorflow/tfjs';
import {losses, optimizers, useBackend} from '../../src';
import {BACKENDS, onEachBackend} from '../support/backends';
import {CASES, dataOf, fixtureModel, numbersOf, rowsOf, type RunCase, setWeights, stored} from './fixtures';

const {Adam, AdamW, CosineDecay, PolynomialDecay, SGD} = optimizers;

const cosine = () =>
  new CosineDecay({initialLearningRate: 1e-3, decaySteps: 3, alpha: 0.1, warmupTarget: 2e-2, warmupSteps: 2});
const polynomial = () => new PolynomialDecay({initialLearningRate: 0.5, decaySteps: 4, endLearningRate: 0.1, power: 2});

/** The optimizers that make_training_fixtures.py uses under the same names. */
const OPTIMIZERS: Record<string, () => tf.Optimizer> = {
  sgd: () => new SGD({learningRate: 0.5}),
  momentum: () => new SGD({learningRate: 0.2, momentum: 0.9, nesterov: true, clipValue: 0.02}),
  adam: () => new Adam({learningRate: 1e-2}),
  amsgrad: () => new Adam({learningRate: 1e-2, amsgrad: true, beta1: 0.8, epsilon: 1e-5, clipNorm: 0.01}),
  adamw: () => new AdamW({learningRate: 1e-2, weightDecay: 0.1, globalClipNorm: 0.05}),
  accumulation: () => new Adam({learningRate: cosine(), gradientAccumulationSteps: 2, weightDecay: 0.05}),
  cosine: () => new Adam({learningRate: cosine()}),
  polynomial: () => new SGD({learningRate: polynomial(), momentum: 0.5}),
  mean_with_sample_weight: () => new SGD({learningRate: 0.1}),
  no_weights: () => new SGD({learningRate: 0.1}),
  lora: () => new Adam({learningRate: 1e-2}),
  lora_sgd: () => new SGD({learningRate: 1}),
  vision: () => new SGD({learningRate: 0.2}),
  vision_adam: () => new Adam({learningRate: 5e-3}),
  vision_lora: () => new Adam({learningRate: 1e-2}),
};

/**
 * Expects each number to be within 1e-4 of the expected one, relative to the expected one or to `least`, whichever is
 * larger.
 */
function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, least = 1e-3): void {
  const relative = (values: ArrayLike<number>) =>
    Array.from(values, (value, i) => value / Math.max(least, Math.abs(expected[i]!)));
  expect(relative(actual)).toBeAllClose(relative(expected), {atol: 1e-4});
}

/** Combinations of settings that must not change the numbers. Each backend uses one of them. */
const WAYS = [
  {padTo: 'longest', recompute: true},
  {padTo: 'sequenceLength', recompute: false},
] as const;

function modelOf({vision, lora, start, trainable, name}: RunCase, recompute: boolean) {
  const lm = fixtureModel(vision);
  if (lora) {
    lm.backbone.enableLora(lora);
    expect(lm.trainableWeights.map(({shape}) => shape)).toEqual(trainable);
    setWeights(lm.trainableWeights, start!);
  }
  const optimizer = OPTIMIZERS[name]!();
  const reduction = name === 'mean_with_sample_weight' ? name : 'sum_over_batch_size';
  const loss = new losses.SparseCategoricalCrossentropy({reduction});
  lm.compile({optimizer, loss, weightedMetrics: 'auto', recompute});
  return {lm, optimizer};
}

onEachBackend(backend => {
  const {padTo, recompute} = WAYS[Math.max(0, BACKENDS.indexOf(backend)) % WAYS.length]!;

  test.each(CASES.runs)(`$name, rows as long as ${padTo}`, async run => {
    const {lm, optimizer} = modelOf(run, recompute);
    const all = rowsOf(run.vision, [0, 1, 2, 3, 4, 5]);
    const sampleWeight = run.name === 'no_weights' ? undefined : all.sampleWeight;
    const steps: number[][] = [];
    const options = {
      ...{batchSize: 2, epochs: 2, shuffle: false, padTo, ...(sampleWeight && {sampleWeight})},
      callbacks: {
        onBatchEnd: (_: number, logs?: tf.Logs) => {
          steps.push([logs!.loss!, logs!.sparse_categorical_accuracy!]);
        },
      },
    };
    await lm.fit(all.x, all.y, options);
    expectNear(steps.flat(), run.steps.flat());
    // Adam takes full steps even for gradients that consist only of rounding errors.
    expectNear(numbersOf(lm.trainableWeights), stored(run.final), 1);
    const held = (await lm.evaluate(all.x, all.y, {batchSize: 3, ...(sampleWeight && {sampleWeight})})) as tf.Scalar[];
    expectNear(
      held.map(x => x.dataSync()[0]!),
      run.evaluate,
    );
    tf.dispose(held);
    lm.dispose();
    optimizer.dispose();
  });
});

test('history of epochs, with validation', async () => {
  await useBackend('simd', {threads: 1});
  const lm = fixtureModel();
  const {x, y, sampleWeight} = dataOf(false);
  lm.compile({optimizer: new SGD({learningRate: 0.5}), weightedMetrics: 'auto'});
  const {history, epoch} = await lm.fit(x, y, {
    ...{sampleWeight, batchSize: 4, epochs: 3, shuffle: false, validationSplit: 0.2},
  });
  expect(epoch).toEqual([0, 1, 2]);
  expect(Object.keys(history).sort()).toEqual(Object.keys(CASES.history).sort());
  for (const [name, expected] of Object.entries(CASES.history)) expectNear(history[name] as number[], expected);
  lm.dispose();
});

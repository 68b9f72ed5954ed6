/** `fit`, `fitDataset` and `evaluate`: arguments, callbacks and memory. */
import * as tf from '@tensorflow/tfjs';
import {type Gemma3CausalLM, losses, optimizers, useBackend, ValueError} from '../../src';
import {onEachBackend} from '../support/backends';
import {expectNoLeak} from '../support/numbers';
import {smallModel} from '../support/small_model';
import {dataOf, fixtureModel, numbersOf} from './fixtures';

const {Adam, SGD} = optimizers;

beforeAll(() => useBackend('simd', {threads: 1}));

const data = () => dataOf(false);
const options = () => ({sampleWeight: data().sampleWeight, batchSize: 2, seed: 5});

/** Trains a new model. Returns the losses of all steps and the final weights. */
async function trained(fitOptions: object, compile: object = {}, config: object = {}) {
  const lm = fixtureModel(false, config);
  lm.compile({optimizer: new SGD({learningRate: 0.3}), ...compile});
  const steps: number[] = [];
  const callbacks = {onBatchEnd: (_: number, logs?: tf.Logs) => void steps.push(logs!.loss!)};
  const {history} = await lm.fit(data().x, data().y, {...options(), callbacks, ...fitOptions});
  const weights = numbersOf(lm.weights);
  lm.optimizer.dispose();
  lm.dispose();
  return {steps, weights, history};
}

test('the same seed gives the same run, another seed a different one', async () => {
  const run = await trained({epochs: 3});
  expect(await trained({epochs: 3})).toEqual(run);
  expect((await trained({epochs: 3, seed: 6})).steps).not.toEqual(run.steps);
  // The order also differs between epochs.
  const still = await trained({epochs: 2}, {optimizer: new SGD({learningRate: 0})});
  expect(still.steps.slice(0, 3)).not.toEqual(still.steps.slice(3));
  expect(still.history.loss![0]).toBeCloseTo(still.history.loss![1] as number, 6);
});

test('dropout follows from the seed, also with recompute', async () => {
  const run = await trained({epochs: 2}, {}, {dropout: 0.3});
  expect(await trained({epochs: 2}, {recompute: true}, {dropout: 0.3})).toEqual(run);
  expect((await trained({epochs: 2})).steps).not.toEqual(run.steps);
  expect((await trained({epochs: 2, seed: 6, shuffle: false}, {}, {dropout: 0.3})).steps).not.toEqual(
    (await trained({epochs: 2, seed: 7, shuffle: false}, {}, {dropout: 0.3})).steps,
  );
});

onEachBackend(() =>
  test('recompute gives the same bits', async () => {
    for (const vision of [false, true]) {
      const runs = [];
      for (const recompute of [false, true]) {
        const lm = fixtureModel(vision);
        lm.compile({optimizer: 'adam', recompute});
        const {x, y, sampleWeight} = dataOf(vision);
        const {history} = await lm.fit(x, y, {sampleWeight, batchSize: 3, seed: 1, epochs: 2});
        runs.push({history, weights: numbersOf(lm.weights)});
        lm.dispose();
      }
      expect(runs[1]).toEqual(runs[0]);
    }
  }),
);

test('rows of similar length share a batch, and padding does not change the loss', async () => {
  const lm = fixtureModel();
  lm.compile({optimizer: new SGD({learningRate: 0})});
  const lengths = async (padTo: 'longest' | 'sequenceLength') => {
    const seen: number[] = [];
    const stages = lm.trainingStages.bind(lm);
    lm.trainingStages = (inputs, dropout) => {
      seen.push(inputs.token_ids!.shape[1]!);
      return stages(inputs, dropout);
    };
    const {history} = await lm.fit(data().x, data().y, {...options(), padTo});
    lm.trainingStages = stages;
    return {seen: seen.sort((a, b) => a - b), loss: history.loss![0] as number};
  };
  const [longest, whole] = [await lengths('longest'), await lengths('sequenceLength')];
  expect(longest.seen).toEqual([6, 9, 12]);
  expect(whole.seen).toEqual([14, 14, 14]);
  expect(longest.loss).toBeCloseTo(whole.loss, 6);
  lm.optimizer.dispose();
  lm.dispose();
});

test('frozen weights need no computation', async () => {
  const count = async (prepare: (lm: Gemma3CausalLM) => void) => {
    const lm = fixtureModel();
    prepare(lm);
    lm.compile({optimizer: 'sgd'});
    const {kernels} = await tf.profile(async () => {
      await lm.fit(data().x, data().y, {...options(), batchSize: 6});
      return [];
    });
    lm.dispose();
    return kernels.filter(({name}) => /MatMul|Attention|Rotary|Norm/.test(name)).length;
  };
  const all = await count(lm => {
    lm.backbone.enableLora(2);
    lm.backbone.trainable = true;
  });
  const lora = await count(lm => lm.backbone.enableLora(2));
  const norm = await count(lm => {
    lm.backbone.trainable = false;
    lm.backbone.layerNorm.trainable = true;
  });
  // Seven kernels and ten norms in two blocks, minus those that LoRA trains.
  expect(all - lora).toBeGreaterThanOrEqual(2 * 7);
  // The blocks only run forward, because none of their weights is trained.
  expect(norm).toBeLessThan(lora / 2);
});

test('fifty steps leave no tensors behind, even after errors', async () => {
  const lm = fixtureModel(true);
  lm.compile({optimizer: 'adam', weightedMetrics: 'auto', recompute: true});
  const {x, y, sampleWeight} = dataOf(true);
  const args = {sampleWeight, batchSize: 1, validationData: [x, y] as const};
  await lm.fit(x, y, {...args, epochs: 1});
  await expectNoLeak(async () => {
    await lm.fit(x, y, {...args, epochs: 9});
    await expect(lm.fit(x, y, {...args, signal: AbortSignal.abort(new Error('enough'))})).rejects.toThrow('enough');
    await expect(
      lm.fit(x, y, {
        ...args,
        callbacks: {
          onBatchEnd: () => {
            throw new Error('no more');
          },
        },
      }),
    ).rejects.toThrow('no more');
    await lm.trainOnBatch(x, y);
    tf.dispose(await lm.evaluate(x, y));
    await lm.saveTrainingState();
  });
  await expectNoLeak(async () => {
    const before = tf.memory().numTensors;
    lm.compile({optimizer: 'adam'});
    expect(tf.memory().numTensors).toBeLessThan(before);
    await lm.fit(x, y, args);
  });
  lm.dispose();
});

onEachBackend(() =>
  test('ids, labels and vision indices that do not exist are refused, and training goes on as before', async () => {
    const lm = fixtureModel(true);
    lm.compile({optimizer: 'adam'});
    const {x, y, sampleWeight} = dataOf(true);
    const args = {sampleWeight, batchSize: 8, shuffle: false};
    await lm.fit(x, y, args);
    /** A copy of rows whose first number is another one. */
    const withFirst = (rows: number[][], first: number) =>
      rows.map((row, i) => (i === 0 ? [first, ...row.slice(1)] : row));
    const {vocabularySize} = lm.backbone.config;
    const before = numbersOf(lm.weights);
    await expectNoLeak(async () => {
      for (const id of [vocabularySize, 999_999, -1]) {
        const received = expect.stringMatching(new RegExp(`Received: ${id}[ .]`));
        const refused = {name: 'ValueError', message: received};
        const ids = withFirst(x.token_ids!, id);
        await expect(lm.fit({...x, token_ids: ids}, y, args)).rejects.toMatchObject(refused);
        const indices = withFirst(x.vision_indices!, id);
        await expect(lm.fit({...x, vision_indices: indices}, y, args)).rejects.toMatchObject(refused);
        const weights = withFirst(sampleWeight, 1);
        const labels = withFirst(y, id);
        await expect(lm.fit(x, labels, {...args, sampleWeight: weights})).rejects.toMatchObject(refused);
        // A label without weight is not read.
        tf.dispose(await lm.evaluate(x, labels, {sampleWeight: withFirst(sampleWeight, 0)}));
      }
      const wrapped = withFirst(y, 2 ** 32 + 5);
      await expect(lm.fit(x, wrapped, args)).rejects.toThrow('Expected `y` as a tensor, as nested arrays of whole');
    });
    expect(numbersOf(lm.weights)).toEqual(before);
    await lm.fit(x, y, args);
    expect(numbersOf(lm.weights)).not.toEqual(before);
    lm.optimizer.dispose();
    lm.dispose();
  }),
);

describe('losses that are not finite', () => {
  test('stop the run before the step', async () => {
    const lm = fixtureModel();
    const huge = new SGD({learningRate: 1e30});
    lm.compile({optimizer: huge});
    let before: number[] = [];
    const callbacks = {onBatchBegin: () => void (before = numbersOf(lm.weights))};
    const run = lm.fit(data().x, data().y, {...options(), epochs: 3, callbacks});
    await expect(run).rejects.toThrow(ValueError);
    await expect(run).rejects.toThrow(
      /Received: NaN in batch \d of epoch 0, step \d\. This step has not changed the weights/,
    );
    expect(numbersOf(lm.weights)).toEqual(before);
    huge.dispose();
    lm.dispose();
  });
});

describe('callbacks', () => {
  test('receive batches and epochs with their logs', async () => {
    const lm = fixtureModel();
    const schedule = new optimizers.PolynomialDecay({initialLearningRate: 0.4, endLearningRate: 0, decaySteps: 4});
    lm.compile({optimizer: new SGD({learningRate: schedule}), weightedMetrics: 'auto'});
    const calls: unknown[][] = [];
    const record = (name: string) => (first: unknown, logs?: unknown) => void calls.push([name, first, logs]);
    const {history} = await lm.fit(data().x, data().y, {
      ...{...options(), batchSize: 4, epochs: 2, validationData: [data().x, data().y, data().sampleWeight]},
      callbacks: [
        {onEpochBegin: record('epoch'), onBatchEnd: record('batch'), onEpochEnd: record('epoch end')},
        {onTrainBegin: record('train'), onTrainEnd: record('train end')},
      ],
    });
    expect(calls.map(([name, first]) => [name, typeof first === 'number' ? first : null])).toEqual([
      ['train', null],
      ...[0, 1].flatMap(epoch => [
        ['epoch', epoch],
        ['batch', 0],
        ['batch', 1],
        ['epoch end', epoch],
      ]),
      ['train end', null],
    ]);
    const batches = calls.filter(([name]) => name === 'batch').map(([, , logs]) => logs as tf.Logs);
    expect(batches.map(({step, totalSteps}) => [step, totalSteps])).toEqual([1, 2, 3, 4].map(step => [step, 4]));
    expect(batches.map(({learningRate}) => learningRate!.toFixed(2))).toEqual(['0.40', '0.30', '0.20', '0.10']);
    const tokens = data().sampleWeight.flat().filter(Boolean).length;
    expect(batches[0]!.tokens! + batches[1]!.tokens!).toBe(tokens);
    expect(batches.map(({size}) => size).sort()).toEqual([2, 2, 4, 4]);
    const names = ['loss', 'sparse_categorical_accuracy', 'val_loss', 'val_sparse_categorical_accuracy'];
    expect(Object.keys(history)).toEqual(names);
    expect(Object.keys(calls.at(-2)![2] as object)).toEqual(names);
    // Validation runs with the weights at the end of the last epoch.
    const [loss] = (await lm.evaluate(data().x, data().y, {sampleWeight: data().sampleWeight})) as tf.Scalar[];
    expect(loss!.dataSync()[0]).toBeCloseTo(history.val_loss![1] as number, 6);
    lm.dispose();
  });

  test('from tfjs can stop early', async () => {
    const lm = fixtureModel();
    lm.compile({optimizer: new SGD({learningRate: 0})});
    const callbacks = tf.callbacks.earlyStopping({monitor: 'loss', patience: 1, minDelta: 0.1});
    const {history, epoch} = await lm.fit(data().x, data().y, {...options(), epochs: 9, callbacks});
    expect(epoch).toEqual([0, 1]);
    expect(history.loss).toHaveLength(2);
    lm.dispose();
  });

  test('with verbose: 1 each epoch is printed', async () => {
    const lines = jest.spyOn(console, 'info').mockImplementation(() => undefined);
    await trained({epochs: 2, verbose: 1});
    expect(lines.mock.calls.map(([line]) => line as string)).toEqual([
      expect.stringMatching(/^Epoch 1\/2 loss: 1\.\d+$/),
      expect.stringMatching(/^Epoch 2\/2 loss: \d\.\d+$/),
    ]);
    lines.mockRestore();
  });
});

describe('text', () => {
  const texts = {prompts: ['What is this?', 'And that one over there?', 'Hm?'], responses: ['A cat', 'Two dogs', 'No']};

  test('gives the same run as its preprocessed tensors', async () => {
    const runs = [];
    for (const raw of [true, false]) {
      const lm = smallModel();
      lm.backbone.setWeights(
        tf.tidy(() => lm.weights.map((w, i) => tf.randomNormal(w.shape as number[], 0, 0.3, 'float32', i + 1))),
      );
      lm.compile({optimizer: 'sgd'});
      const args = {batchSize: 2, epochs: 2, seed: 3, padTo: 'longest'} as const;
      if (raw) runs.push((await lm.fit(texts, {...args, validationData: texts})).history);
      else {
        const {x, y, sampleWeight} = await lm.preprocessor!.call(texts);
        const validationData = [x, y, sampleWeight] as never;
        runs.push((await lm.fit(x as never, y, {...args, sampleWeight, validationData})).history);
        tf.dispose([x, y, sampleWeight] as never);
      }
      lm.dispose();
    }
    expect(runs[1]).toEqual(runs[0]);
  });

  test('without prompts is trained on from the first token to the end', async () => {
    const lm = smallModel();
    const tokens: number[] = [];
    lm.compile();
    const callbacks = {onBatchEnd: (_: number, logs?: tf.Logs) => void tokens.push(logs!.tokens!)};
    await lm.fit(['A cat sat', 'No'], {callbacks, batchSize: 1, shuffle: false});
    const {tokenizer} = lm.preprocessor!;
    expect(tokens).toEqual(['A cat sat', 'No'].map(text => tokenizer.tokenize(text).length + 1));
    lm.dispose();
  });

  test('can come from a dataset', async () => {
    const lm = smallModel();
    lm.compile({optimizer: new SGD({learningRate: 0})});
    const rows = texts.prompts.map((prompts, i) => ({prompts, responses: texts.responses[i]!}));
    const dataset = tf.data.array(rows).batch(2);
    await expectNoLeak(async () => {
      const {history} = await lm.fitDataset(dataset, {epochs: 2, validationData: dataset, validationBatches: 1});
      const whole = (await lm.fit(texts, {batchSize: 2})).history.loss![0] as number;
      expect(history.loss![1]).toBeCloseTo(whole, 6);
      expect(history.val_loss).toHaveLength(2);
      const loss = (await lm.evaluateDataset(dataset)) as tf.Scalar;
      expect(loss.dataSync()[0]).toBeCloseTo(whole, 6);
      loss.dispose();
    });
    lm.dispose();
  });

  test('without a preprocessor is refused', async () => {
    const lm = fixtureModel();
    await expect(lm.fit('a')).rejects.toThrow('A `preprocessor` must be attached to the model to train on text.');
    await expect(lm.fit(['a'] as never, [[1]], {})).rejects.toThrow('computes the labels and weights for text');
    lm.dispose();
  });
});

test('a dataset of tensors', async () => {
  const lm = fixtureModel();
  lm.compile({optimizer: new SGD({learningRate: 0})});
  const elements = [0, 2, 4].map(i => ({
    xs: Object.fromEntries(
      Object.entries(data().x).map(([name, rows]) => [name, tf.tensor(rows.slice(i, i + 2), undefined, 'int32')]),
    ),
    ys: tf.tensor(data().y.slice(i, i + 2), undefined, 'int32'),
    sampleWeight: tf.tensor(data().sampleWeight.slice(i, i + 2)),
  }));
  const dataset = tf.data.generator(function* () {
    for (const {xs, ys, sampleWeight} of elements) {
      const copy = Object.fromEntries(Object.entries(xs).map(([name, x]) => [name, x.clone()]));
      yield {xs: copy, ys: ys.clone(), sampleWeight: sampleWeight.clone()};
    }
  });
  await expectNoLeak(async () => {
    const {history} = await lm.fitDataset(dataset, {epochs: 1});
    const whole = (await lm.fit(data().x, data().y, options())).history.loss![0] as number;
    expect(history.loss![0]).toBeCloseTo(whole, 6);
    const two = await lm.fitDataset(dataset, {batchesPerEpoch: 2});
    expect(two.history.loss![0]).not.toBeCloseTo(whole, 6);
  });
  lm.dispose();
});

describe('is refused', () => {
  test.each<[object, string]>([
    [{epochs: 0}, 'fit expected `epochs` to be a positive integer. Received: epochs=0.'],
    [{batchSize: 1.5}, '`batchSize` to be a positive integer'],
    [{shuffle: 'batch'}, '`shuffle` to be true or false'],
    [{padTo: 'max'}, '`padTo` as "longest" or "sequenceLength". Received: padTo="max".'],
    [{validationSplit: 1}, '`validationSplit` in [0, 1)'],
    [{validationSplit: 0.5, validationData: ['a']}, 'Received both.'],
    [{classWeight: {}}, 'fit expected `classWeight` as {[token id]: weight}'],
    [{stepsPerEpoch: 2}, 'fit has no argument "stepsPerEpoch"'],
    [{verbose: 2}, '`verbose` as 0 or 1'],
    [{seed: -1}, '`seed` as a whole number of at least 0'],
    [{initialEpoch: 1, resumeFrom: new Uint8Array()}, 'reads the epoch from `resumeFrom`'],
    [
      {resumeFrom: new Uint8Array(20)},
      'Expected bytes returned by `saveTrainingState`. Received: bytes in another format',
    ],
    [{callbacks: [3]}, 'Expected `callbacks` as tf.Callbacks or functions by name. Received: 3.'],
    [{sampleWeight: [[1, 2]]}, 'Expected `sampleWeight` as (batch, length), [6,14], or as (batch), one per row.'],
    [{validationData: 5}, 'Expected `validationData` as text, as {prompts, responses} or as [x, y]'],
  ])('fit with %j', async (args, message) => {
    const lm = fixtureModel();
    await expectNoLeak(async () => {
      await expect(lm.fit(data().x, data().y, args)).rejects.toThrow(ValueError);
      await expect(lm.fit(data().x, data().y, args)).rejects.toThrow(message);
    });
    lm.dispose();
  });

  test('data that does not fit', async () => {
    const lm = fixtureModel();
    const {x, y} = data();
    await expect(lm.fit(x, undefined as never)).rejects.toThrow('Expected labels with the inputs');
    await expect(lm.fit(x, [[1, 2]])).rejects.toThrow('Expected `y` as (batch, length)');
    await expect(lm.fit(x, 'y' as never, {})).rejects.toThrow('Expected `y` as a tensor, as nested arrays of whole');
    await expect(lm.fit({token_ids: x.token_ids!}, y)).rejects.toThrow('Expected inputs token_ids, padding_mask.');
    const far = y.map(row => row.map(() => 40));
    await expect(lm.fit(x, far)).rejects.toThrow(
      'Expected labels in [0, 40), the vocabulary of the model. Received: 40.',
    );
    lm.backbone.trainable = false;
    await expect(lm.fit(x, y)).rejects.toThrow(
      'Expected weights to train. Received a model whose weights are all frozen',
    );
    lm.dispose();
  });

  test.each<[object, string]>([
    [{optimizer: 'rmsprop'}, 'Expected `optimizer` as one of "auto", "adam", "adamw", "sgd"'],
    [{loss: 'meanSquaredError'}, 'Expected `loss` as "auto", "sparse_categorical_crossentropy"'],
    [{weightedMetrics: 'accuracy'}, 'Expected `weightedMetrics` as "auto" or as a list'],
    [{recompute: 1}, '`recompute` to be true or false'],
    [{metric: ['accuracy']}, 'compile has no argument "metric"'],
  ])('compile with %j', (args, message) => {
    const lm = fixtureModel();
    expect(() => lm.compile(args as never)).toThrow(message);
    lm.dispose();
  });

  test('two runs at once, packed weights, another optimizer state', async () => {
    const lm = fixtureModel();
    const {x, y} = data();
    const first = lm.fit(x, y);
    await expect(lm.fit(x, y)).rejects.toThrow('another fit() call is ongoing');
    await first;
    lm.dispose();
    const packed = fixtureModel(false, {dtype: 'bfloat16'});
    await expect(packed.fit(x, y)).rejects.toThrow(/weights stored as float32.*Load the model with dtype: "float32"/);
    packed.backbone.enableLora(2);
    const {history} = await packed.fit(x, y, {epochs: 2});
    expect(history.loss).toHaveLength(2);
    packed.dispose();
    expect(() => new losses.SparseCategoricalCrossentropy({reduction: 'mean' as never})).toThrow('as one of "sum_over');
  });
});

test("takes tfjs' optimizers, and defaults without compile", async () => {
  const before = await trained({epochs: 2}, {optimizer: tf.train.sgd(0.3)});
  expect(before.steps.map(x => x.toFixed(5))).toEqual((await trained({epochs: 2})).steps.map(x => x.toFixed(5)));
  const lm = fixtureModel();
  await lm.fit(data().x, data().y, options());
  lm.compile({optimizer: new Adam()});
  expect((lm.optimizer as optimizers.Adam).learningRate).toBe(0.001);
  lm.dispose();
});

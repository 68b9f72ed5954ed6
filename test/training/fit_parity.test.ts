/** Metrics, losses of the user, callbacks and `fit` of embedders and backbones, against KerasHub: make_fit_fixtures.py. */
import {mkdtempSync, readdirSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {callbacks, Gemma3TextEmbedder, losses, metrics, optimizers, useBackend, ValueError} from '../../src';
import {tokenLoss} from '../../src/ops/token_loss';
import {fixture, fixtureJson} from '../support/fixtures';
import {expectNoLeak, take} from '../support/numbers';
import {dataOf, fixtureModel, numbersOf} from './fixtures';

type History = Record<string, number[]>;
interface Run {
  history: History;
  final: number[];
}
interface Fixture {
  metrics: Run & {testOnBatch: Record<string, number>};
  losses: Record<string, Run>;
  classes: Record<string, Run>;
  rates: Record<string, History>;
  stopping: Record<string, Run>;
  checkpoints: Record<string, string[]>;
  embedders: {
    texts: string[];
    labels: number[][];
    runs: Record<string, {history: History; evaluate: number[]; output: number[]}>;
  };
  backbone: Run & {labels: number[][][]};
}
const FIT = fixtureJson<Fixture>('training/fit.json');
const {SGD} = optimizers;
const {x, y, sampleWeight} = dataOf(false);

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

/** Expects the same names, and each number within 1e-4 of the expected one, relative to it or to 1e-2. */
function expectHistory({history}: tf.History, expected: History): void {
  expect(Object.keys(history).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, values] of Object.entries(expected)) {
    expect(history[name]).toHaveLength(values.length);
    const scaled = (numbers: readonly number[]) => numbers.map((v, i) => v / Math.max(1e-2, Math.abs(values[i]!)));
    expect(scaled(history[name] as number[])).toBeAllClose(scaled(values), {atol: 1e-4});
  }
}

const focal = (yTrue: tf.Tensor, yPred: tf.Tensor) =>
  tf.tidy(() => {
    const loss = tokenLoss(yPred, yTrue);
    return tf.mul(tf.square(tf.sub(1, tf.exp(tf.neg(loss)))), loss);
  });

function margin(yTrue: tf.Tensor, yPred: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const right = tf.sum(tf.mul(yPred, tf.oneHot(yTrue.toInt(), yPred.shape[2]!)), -1);
    return tf.sub(tf.max(yPred, -1), right);
  });
}

class Half extends losses.Loss {
  override call(yTrue: tf.Tensor, yPred: tf.Tensor): tf.Tensor {
    return tf.div(focal(yTrue, yPred), 2);
  }
}

function compiled(rate: number, args: object = {}) {
  const lm = fixtureModel();
  lm.compile({optimizer: new SGD({learningRate: rate}), ...args});
  return lm;
}
const OPTIONS = {sampleWeight, batchSize: 4, epochs: 2, shuffle: false};

describe('metrics', () => {
  const plain = () => [
    'accuracy' as const,
    new metrics.Perplexity(),
    new metrics.SparseTopKCategoricalAccuracy({k: 3}),
    margin,
  ];
  const weighted = () => [
    'accuracy' as const,
    new metrics.SparseCategoricalAccuracy(),
    new metrics.SparseCategoricalCrossentropy(),
    new metrics.Perplexity({maskTokenId: 7}),
    margin,
  ];

  test('over all positions and by weight, in fit, evaluate and testOnBatch', async () => {
    const lm = compiled(0.5, {metrics: plain(), weightedMetrics: weighted()});
    expectHistory(await lm.fit(x, y, {...OPTIONS, validationSplit: 0.2}), FIT.metrics.history);
    expect(numbersOf(lm.trainableWeights)).toBeAllClose(FIT.metrics.final, {atol: 1e-4});
    const before = numbersOf(lm.trainableWeights);
    const order = [
      'loss',
      'accuracy',
      'perplexity',
      'sparse_top_k_categorical_accuracy',
      'margin',
      'weighted_accuracy',
    ];
    order.push(
      'sparse_categorical_accuracy',
      'sparse_categorical_crossentropy',
      'weighted_perplexity',
      'weighted_margin',
    );
    expect(Object.keys(FIT.metrics.testOnBatch).sort()).toEqual([...order].sort());
    const expected = order.map(name => FIT.metrics.testOnBatch[name]!);
    await expectNoLeak(async () => {
      expect(await lm.testOnBatch(x, y, sampleWeight)).toBeAllClose(expected, {rtol: 1e-4});
    });
    expect(numbersOf(lm.trainableWeights)).toEqual(before);
    const evaluated = (await lm.evaluate(x, y, {sampleWeight})) as tf.Scalar[];
    expect(evaluated.map(value => value.dataSync()[0]!)).toBeAllClose(expected, {rtol: 1e-4});
    tf.dispose(evaluated);
    lm.dispose();
  });

  test('a run that continues from a saved state has the same metrics', async () => {
    const args = {metrics: plain(), weightedMetrics: weighted()};
    const lm = compiled(0.5, args);
    let state: Uint8Array | undefined;
    const onBatchEnd = async (batch: number) => {
      if (batch === 0) state = await lm.saveTrainingState();
    };
    const whole = await lm.fit(x, y, {...OPTIONS, epochs: 1, callbacks: {onBatchEnd}});
    const other = compiled(0.5, args);
    const rest = await other.fit(x, y, {...OPTIONS, epochs: 1, resumeFrom: state!});
    expect(rest.history).toEqual(whole.history);
    lm.dispose();
    other.dispose();
  });

  test('padding counts in `metrics`, so rows cannot be cut', async () => {
    const lm = compiled(0.1, {metrics: ['accuracy']});
    await expect(lm.fit(x, y, {...OPTIONS, padTo: 'longest'})).rejects.toThrow(/padTo="longest".*weightedMetrics/);
    lm.dispose();
  });

  test('unusable metrics are refused', async () => {
    const lm = fixtureModel();
    const compile = (args: object) => () => lm.compile(args);
    expect(compile({metrics: ['mse']})).toThrow(/Expected a metric as one of "accuracy".*Received: "mse"/);
    expect(compile({metrics: 'accuracy'})).toThrow('Expected `metrics` as a list of metrics');
    expect(compile({weightedMetrics: 'all'})).toThrow('Expected `weightedMetrics` as "auto" or as a list');
    expect(compile({metrics: [() => tf.scalar(1)]})).toThrow('a function with a name');
    expect(() => new metrics.SparseTopKCategoricalAccuracy({k: 0})).toThrow(ValueError);
    expect(() => new metrics.Perplexity({from: 1} as never)).toThrow('no argument "from"');
    const scalar = () => tf.scalar(1);
    lm.compile({metrics: [scalar]});
    await expectNoLeak(async () => {
      await expect(lm.trainOnBatch(x, y, sampleWeight)).rejects.toThrow(
        /metric "scalar" to return one number per token/,
      );
    });
    lm.dispose();
  });
});

describe('losses of the user', () => {
  const cases: [string, object, number, boolean][] = [
    ['function', focal, 0.5, true],
    ['function without weights', focal, 0.5, false],
    ['mean_with_sample_weight', new Half({reduction: 'mean_with_sample_weight'}), 0.5, true],
    ['sum', new Half({reduction: 'sum'}), 0.02, true],
  ];
  test.each(cases)('%s', async (name, loss, rate, withWeights) => {
    for (const recompute of [false, true]) {
      const lm = compiled(rate, {loss, weightedMetrics: ['accuracy'], recompute});
      const {sampleWeight: _, ...rest} = OPTIONS;
      expectHistory(await lm.fit(x, y, withWeights ? OPTIONS : rest), FIT.losses[name]!.history);
      expect(numbersOf(lm.trainableWeights)).toBeAllClose(FIT.losses[name]!.final, {atol: 1e-4});
      lm.dispose();
    }
  });

  test('must return one number per token', async () => {
    const lm = compiled(0.1, {loss: (_: tf.Tensor, yPred: tf.Tensor) => tf.mean(yPred)});
    await expectNoLeak(async () => {
      await expect(lm.trainOnBatch(x, y)).rejects.toThrow(
        /the loss to return one number per token.*\[6,14\].*shape \[\]/,
      );
    });
    expect(() => lm.compile({loss: 'mse' as never})).toThrow(/a losses.Loss, or a function.*Received: "mse"/);
    expect(() => new Half({reduction: 'none' as never})).toThrow('Half expected `reduction`');
    lm.dispose();
  });
});

describe('class weights', () => {
  const all = Object.fromEntries(Array.from({length: 40}, (_, i) => [i, 0.5 + i / 4]));
  const few = {0: 0, 8: 3, 39: 1};
  const {sampleWeight: _, ...rest} = OPTIONS;
  const inColumns = y.map(row => row.map(label => [label]));

  test.each([
    ['(B, T)', y],
    ['(B, T, 1)', inColumns],
  ])('of labels %s weigh tokens, except those of the validation data', async (_, labels) => {
    const lm = compiled(0.5, {weightedMetrics: ['accuracy']});
    const options = {...rest, validationSplit: 0.2, classWeight: all};
    expectHistory(await lm.fit(x, labels, options), FIT.classes.all!.history);
    expect(numbersOf(lm.trainableWeights)).toBeAllClose(FIT.classes.all!.final, {atol: 1e-4});
    lm.dispose();
  });

  test('of some tokens, in a dataset', async () => {
    const lm = compiled(0.5, {weightedMetrics: ['accuracy']});
    const part = (values: number[][], from: number) => values.slice(from, from + 4);
    const element = (from: number) => ({
      xs: Object.fromEntries(
        Object.entries(x).map(([name, v]) => [name, tf.tensor2d(part(v, from), undefined, 'int32')]),
      ),
      ys: tf.tensor2d(part(y, from), undefined, 'int32'),
    });
    const dataset = tf.data.generator(function* () {
      for (const from of [0, 4]) yield element(from);
    });
    await expectNoLeak(async () => {
      const history = await lm.fitDataset(dataset, {epochs: 2, classWeight: few});
      expectHistory(history, FIT.classes['few, in a dataset']!.history);
    });
    expect(numbersOf(lm.trainableWeights)).toBeAllClose(FIT.classes['few, in a dataset']!.final, {atol: 1e-4});
    lm.dispose();
  });

  test.each<[unknown, string]>([
    [{}, 'at least one. Received: {}.'],
    [[1, 2], 'as {[token id]: weight}'],
    [{cat: 1}, 'Received: {"cat":1}'],
    [{'-1': 1}, 'ids from 0 to'],
    [{100000: 1}, 'Received: {"100000":1}'],
    [{3: 'high'}, 'finite weights'],
    [{3: NaN}, 'finite weights'],
  ])('are refused: %j', async (classWeight, message) => {
    const lm = compiled(0.1);
    await expect(lm.fit(x, y, {classWeight} as never)).rejects.toThrow(message);
    await expect(lm.fitDataset(tf.data.array([]), {classWeight} as never)).rejects.toThrow(message);
    lm.dispose();
  });

  test('are refused next to weights of tokens, as in Keras', async () => {
    const lm = compiled(0.1);
    const both = 'either `classWeight` or weights of tokens. Received both';
    await expect(lm.fit(x, y, {...OPTIONS, classWeight: few})).rejects.toThrow(both);
    await expect(lm.fit(['a'], {classWeight: few})).rejects.toThrow(`${both}: the preprocessor weighs the tokens`);
    const dataset = tf.data.array(['a', 'b']).batch(2) as tf.data.Dataset<tf.TensorContainer>;
    await expect(lm.fitDataset(dataset, {classWeight: few})).rejects.toThrow(both);
    lm.dispose();
  });

  test('are part of the run that a saved state continues', async () => {
    const lm = compiled(0.1);
    await lm.fit(x, y, {...rest, epochs: 1, classWeight: few});
    const resumeFrom = await lm.saveTrainingState();
    await expect(lm.fit(x, y, {...rest, resumeFrom, classWeight: all})).rejects.toThrow('`data` is a fingerprint');
    await lm.fit(x, y, {...rest, resumeFrom, classWeight: few});
    lm.dispose();
  });
});

describe('callbacks', () => {
  test('LearningRateScheduler', async () => {
    const lm = compiled(0.1);
    const schedule = new callbacks.LearningRateScheduler((epoch, rate) => (epoch < 2 ? rate : rate * 0.5));
    expectHistory(await lm.fit(x, y, {...OPTIONS, epochs: 4, callbacks: [schedule]}), FIT.rates.scheduler!);
    lm.dispose();
  });

  const plateaus: Record<string, callbacks.ReduceLROnPlateauArgs> = {
    plateau: {factor: 0.5, patience: 1},
    cooldown: {factor: 0.3, patience: 1, cooldown: 2, minLr: 0.3},
    maximum: {monitor: 'val_accuracy', factor: 0.5, patience: 2, mode: 'max'},
  };
  test.each(Object.keys(plateaus))('ReduceLROnPlateau, %s', async name => {
    const lm = compiled(1.5, {weightedMetrics: ['accuracy']});
    const plateau = new callbacks.ReduceLROnPlateau(plateaus[name]);
    const options = {...OPTIONS, epochs: 8, validationSplit: 0.4, callbacks: plateau};
    expectHistory(await lm.fit(x, y, options), FIT.rates[name]!);
    lm.dispose();
  });

  const stops: Record<string, callbacks.EarlyStoppingArgs> = {
    patience: {patience: 1},
    restored: {patience: 2, restoreBestWeights: true},
    baseline: {patience: 2, baseline: 0.01, restoreBestWeights: true},
    later: {patience: 1, startFromEpoch: 3, minDelta: 0.05},
  };
  test.each(Object.keys(stops))('EarlyStopping, %s', async name => {
    const lm = compiled(1.5);
    const stop = new callbacks.EarlyStopping(stops[name]);
    await expectNoLeak(async () => {
      expectHistory(
        await lm.fit(x, y, {...OPTIONS, epochs: 10, validationSplit: 0.4, callbacks: stop}),
        FIT.stopping[name]!.history,
      );
    });
    expect(numbersOf(lm.trainableWeights)).toBeAllClose(FIT.stopping[name]!.final, {atol: 1e-3});
    lm.dispose();
  });

  const saves: Record<string, [string, callbacks.ModelCheckpointArgs]> = {
    'every epoch': ['{epoch:02d}-{val_loss:.2f}.weights.h5', {}],
    best: ['{epoch}.weights.h5', {saveBestOnly: true}],
    threshold: ['{epoch}.weights.h5', {saveBestOnly: true, initialValueThreshold: 1.2}],
    batches: ['{epoch}-{batch}.weights.h5', {saveFreq: 2}],
  };
  test.each(Object.keys(saves))('ModelCheckpoint, %s', async name => {
    const folder = mkdtempSync(join(tmpdir(), 'checkpoints-'));
    const lm = compiled(1.5);
    const [path, args] = saves[name]!;
    const saver = new callbacks.ModelCheckpoint(join(folder, path), {saveWeightsOnly: true, ...args});
    await lm.fit(x, y, {...OPTIONS, batchSize: 2, epochs: 6, validationSplit: 0.4, callbacks: saver});
    const files = readdirSync(folder).sort();
    expect(files).toEqual(FIT.checkpoints[name]);
    if (name === 'every epoch') {
      const expected = numbersOf(lm.weights);
      const other = fixtureModel();
      await other.loadWeights(join(folder, files.at(-1)!));
      expect(numbersOf(other.weights)).toEqual(expected);
      other.dispose();
    }
    rmSync(folder, {recursive: true});
    lm.dispose();
  });

  test("they work in tfjs' own `fit` as well, on tfjs' optimizers", async () => {
    const lm = fixtureModel();
    const {backbone} = lm;
    backbone.compile({optimizer: tf.train.sgd(0.1), loss: 'meanSquaredError'});
    const inputs = [tf.tensor2d(x.token_ids as never, undefined, 'int32'), tf.tensor2d(x.padding_mask as never)];
    const labels = tf.tensor3d(FIT.backbone.labels);
    const rates = new callbacks.LearningRateScheduler((epoch, rate) => rate / (epoch + 1));
    const stop = new callbacks.EarlyStopping({monitor: 'loss', minDelta: 10, patience: 1});
    const folder = mkdtempSync(join(tmpdir(), 'checkpoints-'));
    const saver = new callbacks.ModelCheckpoint(join(folder, 'preset-{epoch}'), {monitor: 'loss'});
    const {history} = await backbone.fit(inputs, labels, {epochs: 5, verbose: 0, callbacks: [rates, stop, saver]});
    expect(history.learning_rate).toBeAllClose([0.1, 0.05], {atol: 1e-6});
    expect(readdirSync(folder)).toEqual(['preset-1', 'preset-2']);
    rmSync(folder, {recursive: true});
    tf.dispose([inputs, labels]);
    lm.dispose();
  });

  test('unusable arguments are refused', () => {
    const {EarlyStopping, LearningRateScheduler, ModelCheckpoint, ReduceLROnPlateau} = callbacks;
    expect(() => new EarlyStopping({monitor: 'perplexity'})).toThrow(/whether lower or higher.*mode: "min"/);
    expect(() => new EarlyStopping({patience: -1})).toThrow('`patience`');
    expect(() => new EarlyStopping({best: 1} as never)).toThrow('no argument "best"');
    expect(() => new ReduceLROnPlateau({factor: 1})).toThrow('`factor` above 0 and below 1');
    expect(() => new LearningRateScheduler(0.1 as never)).toThrow('`schedule` as a function');
    expect(() => new ModelCheckpoint('a.h5', {saveWeightsOnly: true})).toThrow('ends in `.weights.h5`');
    expect(() => new ModelCheckpoint('a.weights.h5')).toThrow('{saveWeightsOnly: true}');
    expect(() => new ModelCheckpoint('a', {saveFreq: 0})).toThrow('`saveFreq`');
  });

  test('a wrong name in a path, a wrong rate and a schedule of the optimizer', async () => {
    const lm = compiled(0.1);
    const fit = (callback: tf.Callback) => lm.fit(x, y, {...OPTIONS, callbacks: callback});
    const path = new callbacks.ModelCheckpoint('{acc}.weights.h5', {saveWeightsOnly: true});
    await expect(fit(path)).rejects.toThrow(/names of logs.*Received: "acc"; there are loss, epoch/);
    await expect(fit(new callbacks.LearningRateScheduler(() => NaN))).rejects.toThrow('to return a number');
    const decay = new optimizers.CosineDecay({initialLearningRate: 0.1, decaySteps: 9});
    lm.compile({optimizer: new SGD({learningRate: decay})});
    await expect(fit(new callbacks.LearningRateScheduler(() => 1))).rejects.toThrow('follows a schedule');
    lm.dispose();
  });
});

describe('fit of a text embedder on texts', () => {
  const {texts, labels, runs} = FIT.embedders;
  const ARGS: Record<string, object> = {
    validation: {validationSplit: 0.4},
    classes: {classWeight: Object.fromEntries(labels[0]!.map((_, i) => [i, 0.5 + i / 4]))},
  };
  test.each(Object.keys(runs))('%s', async name => {
    const expected = runs[name]!;
    const embedder = await Gemma3TextEmbedder.fromPreset(fixture('embedder/mean'), {dtype: 'float32'});
    const loss = name === 'cosine_similarity' ? name : 'mse';
    embedder.compile({optimizer: new SGD({learningRate: 0.2}), loss, ...(loss === 'mse' && {metrics: ['mae']})});
    await expectNoLeak(async () => {
      const options = {batchSize: 2, epochs: 2, shuffle: false, verbose: 0, ...ARGS[name]} as const;
      expectHistory(await embedder.fit(texts, labels, options), expected.history);
      const evaluated = [embedder.evaluate(texts, labels, {batchSize: 2})].flat();
      expect(evaluated.map(value => value.dataSync()[0]!)).toBeAllClose(expected.evaluate, {atol: 1e-4});
      expect(await embedder.testOnBatch(texts, labels)).toEqual(
        loss === 'mse' ? expect.any(Array) : expect.any(Number),
      );
      tf.dispose(evaluated);
      expect(await take(await embedder.encodeText(texts))).toBeAllClose(expected.output, {atol: 1e-4});
    });
    embedder.dispose();
  });

  test('validation data as texts, steps, and errors', async () => {
    const embedder = await Gemma3TextEmbedder.fromPreset('gemma3_tiny', {dtype: 'float32'});
    embedder.backbone.enableLora(2);
    embedder.compile({optimizer: 'sgd', loss: 'cosine_similarity'});
    const targets = tf.randomNormal([2, embedder.backbone.config.hiddenDim]);
    await expectNoLeak(async () => {
      const {history} = await embedder.fit(['a text', 'b'], targets, {
        verbose: 0,
        validationData: [['c', 'd'], targets],
      });
      expect(Object.keys(history).sort()).toEqual(['loss', 'val_loss']);
      expect(await embedder.trainOnBatch(['a', 'b'], targets)).toEqual(expect.any(Number));
      await expect(embedder.fit(['a', 'b', 'c'], targets)).rejects.toThrow('one target for each of 3 texts');
    });
    embedder.preprocessor = null;
    await expect(embedder.fit(['a', 'b'], targets)).rejects.toThrow('A `preprocessor` must be attached');
    targets.dispose();
    embedder.dispose();
  });
});

test('the default optimizer of an embedder is disposed with it', async () => {
  await expectNoLeak(async () => {
    const embedder = await Gemma3TextEmbedder.fromPreset(fixture('embedder/mean'), {dtype: 'float32'});
    embedder.compile({loss: 'mse'});
    await embedder.trainOnBatch(FIT.embedders.texts, FIT.embedders.labels);
    embedder.dispose();
  });
});

test('fit of a backbone', async () => {
  const lm = fixtureModel();
  const {backbone} = lm;
  backbone.compile({optimizer: new SGD({learningRate: 0.1}), loss: 'meanSquaredError', metrics: ['mae']});
  const inputs = [tf.tensor2d(x.token_ids as never, undefined, 'int32'), tf.tensor2d(x.padding_mask as never)];
  const labels = tf.tensor3d(FIT.backbone.labels);
  const history = await backbone.fit(inputs, labels, {batchSize: 4, epochs: 2, shuffle: false, verbose: 0});
  expectHistory(history, FIT.backbone.history);
  expect(numbersOf(backbone.trainableWeights)).toBeAllClose(FIT.backbone.final, {atol: 1e-4});
  const before = numbersOf(backbone.trainableWeights);
  await expectNoLeak(async () => {
    expect(await backbone.testOnBatch(inputs, labels)).toHaveLength(2);
  });
  expect(numbersOf(backbone.trainableWeights)).toEqual(before);
  tf.dispose([inputs, labels]);
  lm.dispose();
});

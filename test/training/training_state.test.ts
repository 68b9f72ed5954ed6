/** Resumed runs continue with the same bits. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, optimizers, useBackend} from '../../src';
import {dataOf, fixtureModel, numbersOf} from './fixtures';

const {AdamW, CosineDecay, SGD} = optimizers;

beforeAll(() => useBackend('simd', {threads: 1}));

const {x, y, sampleWeight} = dataOf(false);
const cosine = () => new CosineDecay({initialLearningRate: 0, decaySteps: 12, warmupTarget: 0.01, warmupSteps: 3});

interface Setup {
  optimizer: () => tf.Optimizer;
  lora?: boolean;
}
const SETUPS: [string, Setup][] = [
  ['AdamW with a schedule', {optimizer: () => new AdamW({learningRate: cosine()})}],
  [
    'gradients of two batches',
    {optimizer: () => new SGD({learningRate: 0.1, momentum: 0.9, gradientAccumulationSteps: 2})},
  ],
  ['LoRA', {optimizer: () => new AdamW({learningRate: 0.01}), lora: true}],
];

function modelOf({optimizer, lora}: Setup): Gemma3CausalLM {
  const lm = fixtureModel(false, {dropout: 0.2});
  if (lora) lm.backbone.enableLora(2);
  lm.compile({optimizer: optimizer(), weightedMetrics: 'auto'});
  return lm;
}

function release(lm: Gemma3CausalLM): void {
  lm.optimizer.dispose();
  lm.dispose();
}

const args = {sampleWeight, batchSize: 2, epochs: 3, validationData: [x, y, sampleWeight] as const};

test.each(SETUPS)('%s', async (_, setup) => {
  // All states of a run, one after each step and each epoch.
  const states: Uint8Array[] = [];
  const losses: number[] = [];
  const lm = modelOf(setup);
  // He-uniform matrices differ from model to model.
  const start = lm.trainableWeights.map(weight => weight.read().clone());
  const save = async () => void states.push(await lm.saveTrainingState());
  const {history} = await lm.fit(x, y, {
    ...args,
    seed: 4,
    callbacks: [
      {onBatchEnd: (_: number, logs?: tf.Logs) => void losses.push(logs!.loss!)},
      {onBatchEnd: save, onEpochEnd: save},
    ],
  });
  const weights = numbersOf(lm.weights);
  expect(states).toHaveLength(12);
  for (const at of [0, 1, 2, 3, 5, 10]) {
    const other = modelOf(setup);
    tf.tidy(() => other.trainableWeights.forEach((weight, i) => void weight.write(tf.zerosLike(start[i]!))));
    const again: number[] = [];
    const callbacks = {onBatchEnd: (_: number, logs?: tf.Logs) => void again.push(logs!.loss!)};
    const run = await other.fit(x, y, {...args, resumeFrom: states[at]!, callbacks});
    expect(again).toEqual(losses.slice(losses.length - again.length));
    expect(again.length).toBe(9 - (Math.floor(at / 4) * 3 + Math.min((at % 4) + 1, 3)));
    expect(run.history).toEqual(history);
    expect(run.epoch).toEqual([0, 1, 2]);
    expect(numbersOf(other.weights)).toEqual(weights);
    release(other);
  }
  tf.dispose(start);
  release(lm);
});

test('an aborted run keeps the last complete step', async () => {
  const [setup] = SETUPS[0]!.slice(1) as [Setup];
  const whole = modelOf(setup);
  const {history} = await whole.fit(x, y, {...args, seed: 9});
  const lm = modelOf(setup);
  const controller = new AbortController();
  const stop = {
    onBatchEnd: (_: number, logs?: tf.Logs) => void (logs!.step === 4 && controller.abort(new Error('stop'))),
  };
  await expect(lm.fit(x, y, {...args, seed: 9, signal: controller.signal, callbacks: stop})).rejects.toThrow('stop');
  const state = await lm.saveTrainingState();
  const run = await lm.fit(x, y, {...args, resumeFrom: state});
  expect(run.history).toEqual(history);
  expect(numbersOf(lm.weights)).toEqual(numbersOf(whole.weights));
  release(whole);
  release(lm);
});

test('a run on a dataset resumes at the same element', async () => {
  const dataset = tf.data.generator(function* () {
    for (let i = 0; i < 6; i += 2) {
      const some = <T>(rows: readonly T[]) => tf.tensor(rows.slice(i, i + 2) as never, undefined, 'int32');
      yield {xs: {token_ids: some(x.token_ids!), padding_mask: some(x.padding_mask!)}, ys: some(y)};
    }
  });
  const run = async (lm: Gemma3CausalLM, more: object) => (await lm.fitDataset(dataset, {epochs: 2, ...more})).history;
  const lm = modelOf(SETUPS[0]![1]);
  const states: Uint8Array[] = [];
  const callbacks = {onBatchEnd: async () => void states.push(await lm.saveTrainingState())};
  const history = await run(lm, {callbacks, seed: 1});
  const other = modelOf(SETUPS[0]![1]);
  expect(await run(other, {resumeFrom: states[3]})).toEqual(history);
  release(other);
  release(lm);
});

test('states that do not fit are refused', async () => {
  const lm = modelOf(SETUPS[0]![1]);
  const nowhere = tf.io.withSaveHandler(() => Promise.reject(new Error('never')));
  await expect(lm.save(nowhere, {includeOptimizer: true})).rejects.toThrow('Use `saveTrainingState` instead.');
  await expect(lm.saveTrainingState()).rejects.toThrow('Expected a training run to save.');
  await lm.fit(x, y, {...args, epochs: 1, seed: 2});
  const state = await lm.saveTrainingState();
  const resume = (given: Gemma3CausalLM, more: object) => given.fit(x, y, {...args, resumeFrom: state, ...more});
  await expect(resume(lm, {batchSize: 3})).rejects.toThrow(
    'model that the run began with: {"batchSize":2}. Received: {"batchSize":3}.',
  );
  await expect(resume(lm, {seed: 3})).rejects.toThrow('began with: {"seed":2}. Received: {"seed":3}.');
  await expect(resume(lm, {resumeFrom: state.subarray(0, 2000)})).rejects.toThrow(
    /Received: (only 2000 bytes|2000 bytes instead of)/,
  );
  const sgd = fixtureModel();
  sgd.compile({optimizer: 'sgd'});
  await expect(resume(sgd, {})).rejects.toThrow('Expected the training state of SGD. Received the state of AdamW.');
  sgd.dispose();
  const adapted = fixtureModel();
  adapted.backbone.enableLora(2);
  await expect(resume(adapted, {})).rejects.toThrow(/Expected the training state of 8 weights.*Received: 28/);
  adapted.dispose();
  release(lm);
});

test('a run does not resume on other data, another scale of LoRA or other frozen weights', async () => {
  const texts = {prompts: ['The sea is', 'The sky is'], responses: [' blue.', ' grey.']};
  const preset = async (dtype: 'float32' | 'int8', alpha: number) => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype});
    lm.backbone.enableLora(2, {alpha, seed: 1});
    return lm;
  };
  const lm = await preset('float32', 2);
  await lm.fit(texts, {seed: 1});
  const resumeFrom = await lm.saveTrainingState();
  const other = {...texts, responses: [' blue.', ' pink.']};
  await expect(lm.fit(other, {epochs: 2, resumeFrom})).rejects.toThrow(/began with: \{"data":"\w{16}"\}/);
  for (const [dtype, alpha, expected] of [
    ['float32', 4, '{"loraAlpha":"2"}. Received: {"loraAlpha":"4"}'],
    ['int8', 2, '{"frozenWeights":"float32"}. Received: {"frozenWeights":"float32,int8"}'],
  ] as const) {
    const changed = await preset(dtype, alpha);
    await expect(changed.fit(texts, {epochs: 2, resumeFrom})).rejects.toThrow(expected);
    changed.dispose();
  }
  await lm.fit(texts, {epochs: 2, resumeFrom});
  lm.dispose();

  const tensors = fixtureModel();
  await tensors.fit(x, y, {...args, epochs: 1, seed: 2});
  const state = await tensors.saveTrainingState();
  const changed = (y as number[][]).map((row, i) => row.map((id, t) => (i === 0 && t === 1 ? (id + 1) % 3 : id)));
  await expect(tensors.fit(x, changed, {...args, resumeFrom: state})).rejects.toThrow('`data` is a fingerprint');
  tensors.dispose();
});

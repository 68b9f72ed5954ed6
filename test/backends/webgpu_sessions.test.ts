/** Sessions and samplers on the backend `webgpu` against the backend `cpu`, and memory over many calls. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, type GenerateOptions, optimizers, samplers, useBackend} from '../../src';
import {smallModel} from '../support/small_model';
import {describeWebGpu, gpuBackend, throwGpuErrors, useWebGpu} from '../support/webgpu';

const SIZES = {numLayers: 2, window: 6} as const;

/** The same weights on every backend. */
function fill(lm: Gemma3CausalLM): Gemma3CausalLM {
  let k = 0;
  for (const weight of lm.weights) {
    const shape = weight.shape as number[];
    const values = Array.from({length: tf.util.sizeFromShape(shape)}, () => 0.5 * Math.sin(++k * 1.7));
    tf.tidy(() => void weight.write(tf.tensor(values, shape)));
  }
  return lm;
}

/** Prompts of a growing conversation, of another one, and one that goes back; the window is passed. */
async function conversation(lm: Gemma3CausalLM) {
  const session = lm.startSession({maxLength: 60, slack: 8});
  const options = {stopTokenIds: null, maxNewTokens: 6} satisfies GenerateOptions;
  const texts: unknown[] = [];
  for (const [prompt, more] of [
    ['The quick brown fox', {}],
    ['The quick brown fox jumps over', {sampler: new samplers.TopKSampler({k: 5, seed: 3, temperature: 2})}],
    ['Another one', {sampler: new samplers.RandomSampler({seed: 4, temperature: 2})}],
    ['The quick', {}],
    ['The quick brown', {logprobs: 2}],
  ] as const) {
    texts.push(await session.generate(prompt, {...options, ...more} as GenerateOptions), session.length);
  }
  session.dispose();
  return texts;
}

const rounded = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value, (_, x: unknown) => (typeof x === 'number' ? Math.round(x * 1e3) / 1e3 : x)));

describeWebGpu('sessions on webgpu', () => {
  beforeAll(useWebGpu);
  afterEach(throwGpuErrors);

  test('the texts and log probabilities of cpu', async () => {
    await useBackend('cpu');
    const reference = fill(smallModel(SIZES));
    const expected = await conversation(reference);
    reference.dispose();
    await useBackend('webgpu');
    const before = tf.memory().numTensors;
    const lm = fill(smallModel(SIZES));
    expect(rounded(await conversation(lm))).toEqual(rounded(expected));
    lm.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('a context whose keys several workgroups share gives the tokens of cpu', async () => {
    const sizes = {numLayers: 1, numQueryHeads: 2, numKeyValueHeads: 1, hiddenDim: 8, intermediateDim: 12, headDim: 4};
    const tokens = Array.from({length: 660}, (_, i) => (i < 650 ? (7 * i * i + 3) % 40 : 0));
    const run = async () => {
      const backbone = new Gemma3Backbone({...sizes, vocabularySize: 40, imageSize: null});
      const lm = fill(new Gemma3CausalLM({backbone}));
      backbone.dispose();
      const inputs = {
        token_ids: tf.tensor2d(tokens, [1, 660], 'int32'),
        padding_mask: tf.tensor2d(
          tokens.map((_, i) => Number(i < 650)),
          [1, 660],
          'bool',
        ),
      };
      // For log probabilities the host chooses, and without them the GPU.
      const out = await lm.generate(inputs, {stopTokenIds: null, logprobs: 1, sampler: 'greedy'});
      const ahead = await lm.generate(inputs, {stopTokenIds: null, sampler: 'greedy'});
      const found = {logprobs: out.logprobs, ids: Array.from(await ahead.token_ids.data())};
      tf.dispose([inputs, out.token_ids, out.padding_mask, ahead]);
      lm.dispose();
      return rounded(found);
    };
    await useBackend('cpu');
    const expected = await run();
    await useBackend('webgpu');
    expect(await run()).toEqual(expected);
  });

  test('many short generations and training steps take no more memory than a few', async () => {
    const lm = fill(smallModel({numLayers: 1}));
    lm.backbone.enableLora(2);
    const optimizer = new optimizers.Adam({learningRate: 1e-3});
    const all = [
      new samplers.GreedySampler(),
      new samplers.TopKSampler({k: 3, seed: 1}),
      new samplers.BeamSampler({numBeams: 2}),
      new samplers.ContrastiveSampler({k: 2, alpha: 0.5}),
    ];
    const memory = () => {
      const {numTensors, numBytesInGPU, numBytesAllocatedInGPU} = tf.memory() as tf.MemoryInfo & Record<string, number>;
      return {numTensors, numBytesInGPU, numBytesAllocatedInGPU};
    };
    const turn = async (i: number) => {
      lm.compile({optimizer, sampler: all[i % all.length]});
      await lm.generate('Hi', {stopTokenIds: null, maxNewTokens: 3});
      // A text that is left early.
      for await (const _ of lm.stream('Hello', {stopTokenIds: null, sampler: 'greedy'})) break;
      const rows = [[5, 6, 7 + i, 8]];
      await lm.trainOnBatch({token_ids: rows, padding_mask: [[1, 1, 1, 1]]}, rows);
    };
    for (let i = 0; i < 8; i++) await turn(i);
    const warm = memory();
    for (let i = 8; i < 16; i++) await turn(i);
    expect(memory()).toEqual(warm);
    expect(warm.numBytesAllocatedInGPU).toBeGreaterThan(0);
    lm.dispose();
    optimizer.dispose();
    expect(gpuBackend().broken).toBeUndefined();
  });
});

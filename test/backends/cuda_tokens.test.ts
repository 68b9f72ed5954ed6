/** Tokens on the backend `cuda`: those of a step at a time, in few operations, of which the host reads four bytes. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, type GenerateOptions, samplers} from '../../src';
import {cudaDevice, describeCuda, useCuda} from '../support/cuda';
import {someTokens} from '../support/small_model';

/** A model like Gemma 3 270M: one key head, norms everywhere; all dtypes can pack it. */
function oneKeyHead(numLayers: number, dtype = 'float32', more: object = {}): Gemma3CausalLM {
  const backbone = new Gemma3Backbone({
    ...{vocabularySize: 300, imageSize: null, numLayers, numQueryHeads: 4, numKeyValueHeads: 1, hiddenDim: 64},
    ...{intermediateDim: 96, headDim: 32, usePostFfwNorm: true, usePostAttentionNorm: true, useQueryKeyNorm: true},
    ...{useSlidingWindowAttention: true, slidingWindowSize: 8, visionEncoder: null, dtype, ...more},
  } as never);
  const lm = new Gemma3CausalLM({backbone, preprocessor: null});
  backbone.dispose(); // The model still holds a reference.
  return lm;
}

/** The tokens after prompts, and whether each came from a program on the device. */
async function tokensAfter(lm: Gemma3CausalLM, prompts: number[][], options: GenerateOptions): Promise<number[][]> {
  const rows: number[][] = prompts.map(() => []);
  const longest = Math.max(...prompts.map(({length}) => length));
  const steps = lm.steps(
    prompts.map(tokens => ({tokens})),
    {stopTokenIds: null, maxLength: longest + 20, ...options},
  );
  for await (const step of steps) step.forEach((token, row) => token !== null && rows[row]!.push(token));
  return rows;
}

const PROMPTS = [someTokens(5, 1), someTokens(9, 2)];

describeCuda('tokens on cuda', () => {
  beforeAll(async () => void (await useCuda()));
  afterEach(() => jest.restoreAllMocks());

  /** The same without programs on the device, and without kernels for whole blocks. */
  async function plainly<T>(lm: Gemma3CausalLM, run: () => Promise<T>): Promise<T> {
    const ahead = jest.spyOn(lm, 'tokensAhead').mockReturnValue(undefined);
    const kernel = tf.getKernel('Gemma3DecoderBlock', 'tensorflow')!;
    tf.unregisterKernel('Gemma3DecoderBlock', 'tensorflow');
    try {
      return await run();
    } finally {
      tf.registerKernel(kernel);
      ahead.mockRestore();
    }
  }

  const SAMPLERS: [string, () => GenerateOptions][] = [
    ['greedy', () => ({sampler: 'greedy'})],
    ['random', () => ({sampler: new samplers.RandomSampler({seed: 1, temperature: 0.7})})],
    ['top_k', () => ({sampler: new samplers.TopKSampler({seed: 2, temperature: 2, k: 7, minP: 0.1})})],
    ['top_p', () => ({sampler: new samplers.TopPSampler({seed: 3, temperature: 0.02, p: 0.6})})],
    ['top_p of top_k', () => ({sampler: new samplers.TopPSampler({seed: 3, temperature: 2, p: 0.9, k: 20})})],
    ['min-p', () => ({sampler: new samplers.RandomSampler({seed: 4, temperature: 0.02, minP: 0.3})})],
  ];

  describe.each([
    ['float32', {}],
    ['bfloat16', {}],
    ['int8', {}],
    ['float32', {attentionLogitSoftCap: 3, finalLogitSoftCap: null}],
    ['bfloat16', {numKeyValueHeads: 2}],
    ['float32', {useQueryKeyNorm: false, usePostFfwNorm: false, usePostAttentionNorm: false}],
  ])('of a model in %s with %j', (dtype, more) => {
    let lm: Gemma3CausalLM;
    beforeAll(() => void (lm = oneKeyHead(6, dtype, more)));
    afterAll(() => lm.dispose());

    const some = dtype === 'bfloat16' ? SAMPLERS : SAMPLERS.slice(0, 1);
    test.each(some)('%s: of one row and of two, beyond the window, as the plain path', async (_, options) => {
      for (const prompts of [PROMPTS.slice(0, 1), PROMPTS]) {
        const expected = await plainly(lm, () => tokensAfter(lm, prompts, options()));
        const ahead = jest.spyOn(lm, 'tokensAhead');
        expect(await tokensAfter(lm, prompts, options())).toEqual(expected);
        expect(ahead.mock.results.some(({value}) => value !== undefined)).toBe(true);
        ahead.mockRestore();
      }
    });
  });

  test('draws that need more tokens than the program looks at are made by the host', async () => {
    const lm = oneKeyHead(1);
    const options = () => ({sampler: new samplers.TopPSampler({seed: 3, temperature: 90, p: 0.9})});
    const expected = await plainly(lm, () => tokensAfter(lm, PROMPTS, options()));
    expect(await tokensAfter(lm, PROMPTS, options())).toEqual(expected);
    lm.dispose();
  });

  test.each([
    ['penalties', {repetitionPenalty: 5} as GenerateOptions, false],
    ['LoRA that is not merged', {}, true],
  ])('%s are computed a step at a time', async (_, options, lora) => {
    const lm = oneKeyHead(2);
    if (lora) lm.backbone.enableLora(2);
    const ahead = jest.spyOn(lm, 'tokensAhead');
    const found = await tokensAfter(lm, PROMPTS, options);
    expect(ahead.mock.results.every(({value}) => value === undefined)).toBe(true);
    ahead.mockRestore();
    expect(found).toEqual(await plainly(lm, () => tokensAfter(lm, PROMPTS, options)));
    lm.dispose();
  });

  /** What one more token costs after some tokens. */
  async function costOfToken(lm: Gemma3CausalLM, options: GenerateOptions) {
    const {counts} = cudaDevice().binding;
    const each: (typeof counts)[] = [];
    for await (const _ of lm.steps([{tokens: PROMPTS[0]!}], {stopTokenIds: null, maxLength: 30, ...options})) {
      each.push({...counts});
    }
    const [warm, last] = [each.at(-6)!, each.at(-3)!];
    const cost = (name: keyof typeof counts) => (last[name] - warm[name]) / 3;
    return {operations: cost('operations'), bytesRead: cost('bytesRead')};
  }

  test.each([
    ['float32', {}, 52],
    ['bfloat16', {}, 49],
    ['bfloat16', {numKeyValueHeads: 2}, 52],
  ])('a block in %s with %j takes few operations', async (dtype, more, most) => {
    const counts: number[] = [];
    for (const layers of [1, 5]) {
      const lm = oneKeyHead(layers, dtype, {...more, useSlidingWindowAttention: false});
      counts.push((await costOfToken(lm, {sampler: 'greedy'})).operations);
      lm.dispose();
    }
    expect((counts[1]! - counts[0]!) / 4).toBe(most);
    // The embedding, the last norm, the head and the choice.
    expect(counts[0]! - most).toBeLessThanOrEqual(15);
  });

  test.each(SAMPLERS)('%s: the host reads four bytes of a token', async (_, options) => {
    const lm = oneKeyHead(2);
    expect((await costOfToken(lm, options())).bytesRead).toBe(4);
    lm.dispose();
  });

  test('joined queries and keys take no memory of their own', async () => {
    const lm = oneKeyHead(2, 'bfloat16');
    const before = lm.backbone.getWeights().map(weight => weight.dataSync().slice());
    await tokensAfter(lm, PROMPTS.slice(0, 1), {sampler: 'greedy'});
    const after = lm.backbone.getWeights().map(weight => weight.dataSync().slice());
    expect(after).toEqual(before);
    lm.dispose();
  });
});

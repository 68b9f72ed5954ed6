/**
 * Whole decoding steps on the GPU, several ahead of the host: the same tokens, and no object is created for each of
 * them.
 */
import * as tf from '@tensorflow/tfjs';
import {type Gemma3CausalLM, type GenerateOptions, samplers} from '../../src';
import {type StepsAhead} from '../../src/generation/decoder';
import {type GpuCounts} from '../../src/backends/webgpu/webgpu_backend';
import {smallModel, someTokens} from '../support/small_model';
import {describeWebGpu, gpuBackend, throwGpuErrors, useWebGpu} from '../support/webgpu';

describeWebGpu('decoding steps on webgpu', () => {
  let lm: Gemma3CausalLM;
  /** Numbers of steps that were run at once. */
  let runs: number[] = [];
  let ahead: jest.SpyInstance;
  beforeAll(async () => {
    await useWebGpu();
    lm = smallModel({numLayers: 2});
  });
  afterAll(() => lm.dispose());
  beforeEach(() => watch(lm));

  function watch(lm: Gemma3CausalLM): void {
    runs = [];
    const original = (Object.getPrototypeOf(lm) as Gemma3CausalLM).tokensAhead;
    ahead = jest.spyOn(lm, 'tokensAhead').mockImplementation((...args) => {
      const steps = original.apply(lm, args) as StepsAhead<never>;
      const {run} = steps;
      steps.run = own => {
        runs.push(own.length);
        return run.call(steps, own);
      };
      return steps;
    });
    // No time passes, so that many steps run at once on a slow adapter too.
    jest.spyOn(performance, 'now').mockReturnValue(0);
  }
  afterEach(async () => {
    jest.restoreAllMocks();
    await throwGpuErrors();
  });

  /** The same call with a step at a time. */
  async function oneByOne<T>(call: () => Promise<T>): Promise<T> {
    const own = ahead.getMockImplementation() as Gemma3CausalLM['tokensAhead'];
    ahead.mockReturnValue(undefined);
    const result = await call();
    ahead.mockImplementation(own as never);
    return result;
  }

  const PROMPTS = ['The quick brown fox', 'Another'];
  const some = {stopTokenIds: null, maxNewTokens: 11} satisfies GenerateOptions;

  test.each<[string, () => GenerateOptions]>([
    ['greedy', () => ({repetitionPenalty: 5})],
    ['random', () => ({sampler: new samplers.RandomSampler({seed: 1, temperature: 3})})],
    ['top_k', () => ({sampler: new samplers.TopKSampler({seed: 2, temperature: 3, k: 7, minP: 0.1})})],
    ['top_p', () => ({sampler: new samplers.TopPSampler({seed: 3, temperature: 0.02, p: 0.6})})],
    ['min-p', () => ({sampler: new samplers.RandomSampler({seed: 4, temperature: 0.02, minP: 0.3})})],
    [
      'penalties',
      () => ({
        sampler: new samplers.TopKSampler({seed: 5, temperature: 2, presencePenalty: 1, frequencyPenalty: 0.5}),
      }),
    ],
  ])('%s: the tokens of one step at a time, in rows of different lengths', async (_, make) => {
    const run = () => lm.generate(PROMPTS, {...some, ...make(), details: true});
    const expected = await oneByOne(run);
    expect(runs).toEqual([]);
    expect(await run()).toEqual(expected);
    expect(Math.max(...runs)).toBe(4);
  });

  test('draws that need more tokens than the program looks at are made by the host', async () => {
    const run = () =>
      lm.generate('Hello', {
        ...some,
        maxNewTokens: 3,
        sampler: new samplers.TopPSampler({seed: 3, temperature: 9, p: 0.9}),
      });
    const expected = await oneByOne(run);
    expect(await run()).toEqual(expected);
    expect(ahead.mock.calls.length).toBeGreaterThan(2);
  });

  test('a session continues, whatever was computed past the end of a text', async () => {
    const texts = async () => {
      const session = lm.startSession({maxLength: 60});
      const drawn = () => ({sampler: new samplers.RandomSampler({seed: 7, temperature: 3}), stopTokenIds: null});
      const first = await session.generate('The quick', {...drawn(), maxNewTokens: 11});
      const lengths = [session.length];
      const second = await session.generate(`${first} fox`, {...drawn(), maxNewTokens: 5});
      lengths.push(session.length, session.reused);
      // A loop that is left while steps are running.
      for await (const _ of session.stream(`${second} jumps`, drawn())) break;
      const third = await session.generate('The quick brown', {...drawn(), maxNewTokens: 4});
      session.dispose();
      return {first, second, third, lengths};
    };
    const expected = await oneByOne(texts);
    expect(await texts()).toEqual(expected);
    expect(Math.max(...runs)).toBe(4);
  });

  test('other tensors are recorded again: those of a cache that has grown, or was copied', async () => {
    const tokens = someTokens(5, 1);
    const inCache = [tokens.slice(0, -1)];
    const first = lm.newCache(1, 64, 16);
    tf.dispose(lm.nextLogits(inCache, [4], first));
    const second = first.copy();
    const steps = lm.tokensAhead({draw: null, penalties: null}, 1)!;
    const two = Array.from({length: 2}, () => ({active: [true], uniforms: []}));
    const run = async (cache: typeof first) => {
      steps.start([{tokens, promptLength: 5}], cache);
      return [...(await steps.run(two)), ...(await steps.run(two))];
    };
    const expected = await run(first);
    expect(await run(second)).toEqual(expected);
    // What the first run has stored is still there.
    first.truncate([4]);
    expect(await run(first)).toEqual(expected);
    for (const one of [steps, first, second]) one.dispose();
  });

  test('a token is a part of one submission: nothing is made for it, and four bytes of it are read', async () => {
    const deep = smallModel({numLayers: 7, hiddenDim: 32});
    watch(deep);
    const {device, queue} = gpuBackend();
    const counts = {submit: 0, createBindGroup: 0, createBuffer: 0, createComputePipeline: 0, dispatches: 0, bytes: 0};
    const spies = [
      jest.spyOn(queue, 'submit').mockImplementation(function (this: GPUQueue, ...args) {
        counts.submit++;
        return (Object.getPrototypeOf(queue) as GPUQueue).submit.apply(queue, args);
      }),
      ...(['createBindGroup', 'createBuffer', 'createComputePipeline'] as const).map(name =>
        jest.spyOn(device, name).mockImplementation((...args: unknown[]) => {
          counts[name]++;
          return ((Object.getPrototypeOf(device) as GPUDevice)[name] as (...all: unknown[]) => never).apply(
            device,
            args,
          );
        }),
      ),
    ];
    const encoders = jest.spyOn(device, 'createCommandEncoder').mockImplementation(descriptor => {
      const encoder = (Object.getPrototypeOf(device) as GPUDevice).createCommandEncoder.call(device, descriptor);
      const {beginComputePass, copyBufferToBuffer} = encoder;
      encoder.copyBufferToBuffer = ((...args: unknown[]) => {
        counts.bytes += args[4] as number;
        return (copyBufferToBuffer as (...all: unknown[]) => void).apply(encoder, args);
      }) as never;
      encoder.beginComputePass = given => {
        const pass = beginComputePass.call(encoder, given);
        const {dispatchWorkgroups} = pass;
        pass.dispatchWorkgroups = (...args) => {
          counts.dispatches++;
          return dispatchWorkgroups.apply(pass, args);
        };
        return pass;
      };
      return encoder;
    });
    const each: (typeof counts & {own: GpuCounts})[] = [];
    for await (const _ of deep.stream('Hi', {stopTokenIds: null, maxNewTokens: 30})) {
      each.push({...counts, own: {...gpuBackend().counts}});
    }
    for (const spy of [...spies, encoders]) spy.mockRestore();
    deep.dispose();
    // The first tokens create everything, and the last ones create nothing.
    const [warm, last] = [each[8]!, each.at(-1)!];
    const made = ({createBindGroup, createBuffer, createComputePipeline}: typeof counts) => [
      createBindGroup,
      createBuffer,
      createComputePipeline,
    ];
    expect(made(last)).toEqual(made(warm));
    expect(last.submit - warm.submit).toBeLessThanOrEqual(5);
    const steps = runs.slice(runs.length - (last.submit - warm.submit)).reduce((a, b) => a + b, 0);
    expect(last.bytes - warm.bytes).toBe(4 * steps);
    // What `gemma3 bench` shows.
    expect(last.own.bytesRead - warm.own.bytesRead).toBe(last.bytes - warm.bytes);
    expect(last.own.submissions - warm.own.submissions).toBe(last.submit - warm.submit);
    expect(last.own.dispatches - warm.own.dispatches).toBe(last.dispatches - warm.dispatches);
    // Five for each of seven blocks; embedding, norm, head, two for the choice, one that notes it.
    expect((last.dispatches - warm.dispatches) / steps).toBe(7 * 5 + 6);
  });
});

/** The cache of keys and values as bfloat16. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, KvCache, samplers, useBackend} from '../../src';
import {Gemma3Cache} from '../../src/models/gemma3/parts/cache';
import {attention} from '../../src/ops/attention';
import {packBfloat16} from '../../src/ops/bfloat16_cache';
import {unpackBfloat16} from '../../src/ops/unpack';
import {onEveryBackend} from '../support/backends';
import {fixtureJson, TINY_PRESET} from '../support/fixtures';
import {normal} from '../support/random';
import {smallModel, someTokens} from '../support/small_model';

/** From Python KerasHub, with rounded keys and values: test/reference/make_cache_fixtures.py. */
const {cases} = fixtureJson<{
  cases: {prompt: number[]; newTokens: number[]; at: [number, number]; logits: [number[], number[]]}[];
}>('bfloat16_cache.json');

/** Packed keys or values as float32. */
const asFloat32 = (x: tf.Tensor4D): tf.Tensor4D => {
  const bits = tf.reshape(x, [-1, x.shape[3]]) as tf.Tensor2D;
  return tf.reshape(unpackBfloat16(bits), [...x.shape.slice(0, 3), -1] as unknown as typeof x.shape);
};

/** Rounding changes logits by up to 0.02 there. */
const TOLERANCE = {rtol: 0, atol: 2e-3};

onEveryBackend(({name}) => {
  let lm: Gemma3CausalLM;
  let plain: Gemma3CausalLM;
  beforeAll(() => {
    plain = smallModel();
    const {backbone, preprocessor} = plain;
    lm = new Gemma3CausalLM({backbone, preprocessor, cacheDtype: 'bfloat16'});
  });
  afterAll(() => {
    lm.dispose();
    plain.dispose();
  });

  if (name === 'cuda') {
    test('is refused', () => {
      expect(() => lm.newCache(1, 8)).toThrow(
        /^Expected another backend.* for keys and values as bfloat16\. Received: "/,
      );
    });
    return;
  }

  test.each(['float32', 'bfloat16'] as const)("computes KerasHub's logits, with weights as %s", async dtype => {
    const tiny = await Gemma3CausalLM.fromPreset(TINY_PRESET, {dtype, preprocessor: null, cacheDtype: 'bfloat16'});
    const width = cases[0]!.logits[0].length;
    const longest = Math.max(...cases.map(({prompt}) => prompt.length));
    const cache = tiny.newCache(cases.length, 200);
    const check = async (logits: tf.Tensor2D, step: 0 | 1) => {
      const found = tf.tidy(() => tf.slice(logits, [0, 0], [-1, width]));
      expect(await found.data()).toBeAllClose(
        cases.flatMap(one => one.logits[step]),
        TOLERANCE,
      );
      found.dispose();
    };
    const padded = cases.map(({prompt}) => [...prompt, ...Array<number>(longest - prompt.length).fill(0)]);
    // In two pieces: the second attends over keys of the first.
    const [first, second] = [padded.map(row => row.slice(0, 40)), padded.map(row => row.slice(40))];
    tiny.nextLogits(first, [40, 40], cache).dispose();
    let logits = tiny.nextLogits(
      second,
      cases.map(({prompt}) => prompt.length - 40),
      cache,
    );
    await check(logits, 0);
    for (const t of cases[0]!.newTokens.keys()) {
      logits.dispose();
      logits = tiny.nextLogits(
        cases.map(({newTokens}) => [newTokens[t]!]),
        cases.map(() => 1),
        cache,
      );
    }
    await check(logits, 1);
    logits.dispose();
    cache.dispose();
    tiny.dispose();
  });

  test('rounds to nearest, ties to even', async () => {
    const ties = [1 + 2 ** -8, 1 + 3 * 2 ** -8, -1 - 2 ** -8, 1 + 2 ** -8 + 2 ** -20, 2 ** 120, 2 ** -120, 0.3, 0];
    const rounded = [1, 1 + 4 * 2 ** -8, -1, 1 + 2 ** -7, 2 ** 120, 2 ** -120, 0.30078125, 0];
    const [packed, wide] = tf.tidy(() => {
      const words = packBfloat16(tf.tensor4d(ties, [1, 2, 1, 4]));
      return [words, asFloat32(words)];
    });
    expect(packed.shape).toEqual([1, 2, 1, 2]);
    expect(await wide.data()).toEqual(new Float32Array(rounded));
    tf.dispose([packed, wide]);
  });

  test.each([
    [1, 1, 4, 1, 32],
    [2, 3, 4, 2, 6],
    [1, 9, 6, 1, 10],
    [2, 70, 2, 2, 4],
  ])('attends over packed keys as over the same as float32: %i rows, %i tokens, %i heads', async (...sizes) => {
    const [batch, length, heads, keyHeads, width] = sizes;
    const size = 75;
    const [ours, theirs] = tf.tidy(() => {
      const q = normal([batch, length, heads, width], 1) as tf.Tensor4D;
      const [k, v] = [2, 3].map(seed => packBfloat16(normal([batch, size, keyHeads, width], seed) as tf.Tensor4D));
      const at = (from: number, count: number) =>
        tf.tensor2d([Array.from({length: count}, (_, i) => from + i)], [1, count], 'int32');
      const positions = {queryPositions: at(size - length, length), keyPositions: at(0, size)};
      const attrs = {scale: 0.3, logitSoftCap: null, window: 64, bidirectional: false};
      return [
        attention({q, k: k!, v: v!, ...positions}, attrs),
        attention({q, k: asFloat32(k!), v: asFloat32(v!), ...positions}, attrs),
      ];
    });
    expect(await ours.data()).toBeAllClose(await theirs.data(), {rtol: 1e-5, atol: 1e-5});
    tf.dispose([ours, theirs]);
  });

  test('takes half the bytes, also after it has grown', () => {
    const bytes = (model: Gemma3CausalLM) => {
      const before = tf.memory().numBytes;
      const cache = model.newCache(1, 600);
      const small = tf.memory().numBytes - before;
      model.nextLogits([someTokens(270, 1)], [270], cache).dispose();
      const large = tf.memory().numBytes - before;
      cache.dispose();
      return [small, large];
    };
    const [small, large] = bytes(plain);
    expect(bytes(lm)).toEqual([small! / 2, large! / 2]);
    expect(large).toBeGreaterThan(small!);
  });

  test('Gemma3Cache.byteLength is what a cache takes', () => {
    const before = tf.memory().numBytes;
    const cache = lm.newCache(1, 200);
    expect(tf.memory().numBytes - before).toBe(Gemma3Cache.byteLength(lm.backbone, 200, 'bfloat16'));
    cache.dispose();
  });

  test('steps of one token compute what a prompt does, also over many keys', async () => {
    // Of seven blocks, one sees all keys. On a GPU, several workgroups share them.
    const count = name === 'cpu' ? 70 : 520;
    const ids = someTokens(count, 5);
    const [whole, steps] = [lm.newCache(1, 600), lm.newCache(1, 600)];
    const expected = lm.nextLogits([ids], [count], whole);
    lm.nextLogits([ids.slice(0, -2)], [count - 2], steps).dispose();
    lm.nextLogits([[ids[count - 2]!]], [1], steps).dispose();
    const found = lm.nextLogits([[ids[count - 1]!]], [1], steps);
    // Rounding changes these logits by more.
    expect(await found.data()).toBeAllClose(await expected.data(), {rtol: 0, atol: 2e-4});
    tf.dispose([expected, found]);
    whole.dispose();
    steps.dispose();
  });

  const SAMPLERS = {
    greedy: () => new samplers.GreedySampler(),
    beam: () => new samplers.BeamSampler({numBeams: 2}),
    contrastive: () => new samplers.ContrastiveSampler({k: 2}),
    speculative: () => new samplers.SpeculativeSampler({numSpeculativeTokens: 3}),
  };

  test.each(Object.keys(SAMPLERS) as (keyof typeof SAMPLERS)[])(
    '%s: sessions and pieces change no text',
    async name => {
      lm.compile({sampler: SAMPLERS[name]()});
      const prompts = ['one two three four five six', 'one two three four five and'];
      const options = {maxLength: 30, stopTokenIds: null, prefillChunk: 512};
      const before = tf.memory().numTensors;
      const texts = [];
      for (const prompt of prompts) texts.push(await lm.generate(prompt, options));
      // Longer than the window of 8: rings are overwritten, and slots copied.
      for (const [i, prompt] of prompts.entries()) {
        expect(await lm.generate(prompt, {...options, prefillChunk: 5})).toBe(texts[i]);
      }
      expect(await lm.generate(prompts, options)).toEqual(texts);
      const session = lm.startSession({maxLength: 64});
      const {prefillChunk} = options;
      for (const [i, prompt] of prompts.entries()) {
        expect(await session.generate(prompt, {stopTokenIds: null, maxLength: 30, prefillChunk})).toBe(texts[i]);
      }
      const copy = session.fork();
      expect(await copy.generate(prompts[0]!, {stopTokenIds: null, maxLength: 30})).toBe(texts[0]);
      copy.dispose();
      session.dispose();
      expect(tf.memory().numTensors).toBe(before);
    },
  );
});

describe('cacheDtype', () => {
  test('is kept by clones, and can be given to fromPreset', async () => {
    await useBackend('cpu');
    const lm = await Gemma3CausalLM.fromPreset('gemma3_270m', {loadWeights: false, cacheDtype: 'bfloat16'});
    expect(lm.cacheDtype).toBe('bfloat16');
    lm.dispose();
    const small = smallModel();
    expect(small.cacheDtype).toBe('float32');
    const other = new Gemma3CausalLM({backbone: small.backbone, cacheDtype: 'bfloat16'});
    const copy = other.clone();
    expect(copy.cacheDtype).toBe('bfloat16');
    for (const model of [copy, other, small]) model.dispose();
  });

  test('refuses other values, odd widths, and backends that cannot store it', async () => {
    await useBackend('cpu');
    const small = smallModel();
    const wrong = {backbone: small.backbone, cacheDtype: 'float16' as 'bfloat16'};
    expect(() => new Gemma3CausalLM(wrong)).toThrow(
      'Gemma3CausalLM expected `cacheDtype` to be "float32" or "bfloat16". Received: cacheDtype="float16".',
    );
    const sizes = {batch: 1, maxLength: 4, numKeyValueHeads: 1, window: null};
    expect(() => new KvCache({...sizes, headDim: 2, dtype: 'int8' as 'bfloat16'})).toThrow(
      'KvCache expected `dtype` to be "float32" or "bfloat16". Received: dtype="int8".',
    );
    expect(() => new KvCache({...sizes, headDim: 3, dtype: 'bfloat16'})).toThrow('even `headDim`');
    small.dispose();
    tf.registerBackend(
      'without_kernels',
      () =>
        new (class extends tf.KernelBackend {
          override dispose() {}
        })(),
    );
    await tf.setBackend('without_kernels');
    expect(() => new KvCache({...sizes, headDim: 2, dtype: 'bfloat16'})).toThrow(
      'keys and values as bfloat16. Received: "without_kernels", headDim=2. Leave them float32.',
    );
    await tf.setBackend('cpu');
    tf.removeBackend('without_kernels');
  });
});

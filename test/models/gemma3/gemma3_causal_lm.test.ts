/** `generate` and `stream` of a small random model with a real tokenizer. */
import * as tf from '@tensorflow/tfjs';
import {
  ContextFullError,
  Gemma3Backbone,
  Gemma3Cache,
  Gemma3CausalLM,
  Gemma3CausalLMPreprocessor,
  Gemma3Tokenizer,
  type GenerateOptions,
  type PrefillProgress,
  samplers,
} from '../../../src';
import {fixtureBytes} from '../../support/fixtures';
import {expectNoLeak, take} from '../../support/numbers';

const proto = fixtureBytes('tokenizer/vocabulary.spm');
const tokenizer = new Gemma3Tokenizer({proto});

function makeBackbone(dtype: 'float32' | 'bfloat16' = 'float32'): Gemma3Backbone {
  return new Gemma3Backbone({
    vocabularySize: tokenizer.vocabularySize,
    imageSize: null,
    numLayers: 6,
    numQueryHeads: 2,
    numKeyValueHeads: 1,
    hiddenDim: 32,
    intermediateDim: 48,
    headDim: 16,
    usePostFfwNorm: true,
    usePostAttentionNorm: true,
    useSlidingWindowAttention: true,
    slidingWindowSize: 8,
    dtype,
  });
}

/** A random model repeats its last token greedily; random sampling varies the text. */
const randomSampler = (seed: number) => new samplers.RandomSampler({seed, temperature: 3});

let backbone: Gemma3Backbone;
let lm: Gemma3CausalLM;
beforeAll(() => {
  backbone = makeBackbone();
  lm = new Gemma3CausalLM({
    backbone,
    preprocessor: new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 40}),
  });
  tf.dispose(lm.predict({token_ids: [[2]], padding_mask: [[1]]})); // initializes the weights
});
afterAll(() => {
  lm.dispose();
  backbone.dispose();
});

const PROMPTS = ['Hi there', 'The quick brown fox jumps over the lazy dog', 'a'];

describe('generate', () => {
  test('takes a string and returns one, with or without the prompt', async () => {
    await expectNoLeak(async () => {
      const whole = await lm.generate('Hi there', {maxLength: 24, stopTokenIds: null});
      const stripped = await lm.generate('Hi there', {maxLength: 24, stopTokenIds: null, stripPrompt: true});
      expect(whole).toBe(`Hi there${stripped}`);
      expect(stripped.length).toBeGreaterThan(0);
    });
  });

  test('gives each prompt of a batch the same result as on its own', async () => {
    const options = {maxLength: 30, stopTokenIds: null};
    const together = await lm.generate(PROMPTS, options);
    const separate = [];
    for (const prompt of PROMPTS) separate.push(await lm.generate(prompt, options));
    expect(together).toEqual(separate);
  });

  test('accepts {prompts}, and stops after the given tokens', async () => {
    const {tokens} = await lm.preprocessor!.promptTokens('Hi there');
    const cache = lm.newCache(1, 30);
    const logits = await take(lm.nextLogits(tokens, [tokens[0]!.length], cache));
    cache.dispose();
    const first = logits.indexOf(logits.reduce((a, b) => Math.max(a, b)));
    const options = {maxLength: 30, stripPrompt: true, stopTokenIds: [first]};
    expect(await lm.generate({prompts: 'Hi there'}, options)).toBe(tokenizer.detokenize([first]));
  });

  test('has the logits of a forward pass over the whole text at each step', async () => {
    const ids = tokenizer.tokenize('The quick brown fox jumps over the lazy dog');
    const prompt = [tokenizer.startTokenId, ...ids.slice(0, 3)];
    const cache = lm.newCache(1, 32);
    let rows = [prompt];
    let seen = [...prompt];
    for (const next of ids.slice(3)) {
      const logits = await take(lm.nextLogits(rows, [rows[0]!.length], cache));
      const all = lm.predict({token_ids: [seen], padding_mask: [seen.map(() => 1)]}) as tf.Tensor3D;
      const last = await take(tf.slice(all, [0, seen.length - 1, 0], [1, 1, -1]));
      all.dispose();
      expect(logits).toBeAllClose(last, {atol: 1e-4});
      rows = [[next]];
      seen = [...seen, next];
    }
    cache.dispose();
  });

  test('defaults to the sequence length of the preprocessor', async () => {
    let steps = 0;
    class Counting extends samplers.GreedySampler {
      override sample(logits: tf.Tensor2D): Promise<number[]> {
        steps++;
        return super.sample(logits);
      }
    }
    lm.compile({sampler: new Counting()});
    await lm.generate('Hi', {stopTokenIds: null});
    lm.compile();
    expect(steps).toBe(40 - (await lm.preprocessor!.promptTokens('Hi')).tokens[0]!.length);
  });

  test('refuses a prompt that leaves no room for new text', async () => {
    await expectNoLeak(async () => {
      const {length} = (await lm.preprocessor!.promptTokens('Hi there')).tokens[0]!;
      expect(await lm.generate('Hi there', {maxLength: length + 1})).toContain('Hi there');
      const tooLong = 'Hi there '.repeat(40); // more than the sequence length of the preprocessor
      const read = async (text: string, options?: GenerateOptions) => {
        for await (const piece of lm.stream(text, options)) void piece;
      };
      for (const [run, limit] of [
        [() => lm.generate('Hi there', {maxLength: length}), length],
        [() => lm.generate('Hi there', {maxLength: 1, logprobs: 1}), 1],
        [() => lm.generate(tooLong), 40],
        [() => read('Hi there', {maxLength: length, stripPrompt: false}), length],
        [() => read(tooLong), 40],
      ] as const) {
        await expect(run()).rejects.toThrow(ContextFullError);
        await expect(run()).rejects.toThrow(
          `Prompt and new text together have at most ${limit} tokens. Received: a prompt of ${limit} tokens or more. ` +
            'Raise `maxLength`, or make the prompt shorter.',
        );
      }
      await expect(lm.generate(['a', tooLong])).rejects.toThrow('at most 40 tokens in prompt 1. Received');
    });
  });

  test.each([new samplers.GreedySampler(), new samplers.BeamSampler({numBeams: 2}), new samplers.SpeculativeSampler()])(
    'counts new tokens of each prompt with `maxNewTokens`: %p',
    async sampler => {
      lm.compile({sampler});
      // Longer than the sequence length of the preprocessor, 40: prompts are not cut.
      const prompts = ['Hi', 'Hi there '.repeat(20), 'The'];
      const options = {stopTokenIds: null, maxNewTokens: 5, logprobs: 0, stripPrompt: true};
      const results = await lm.generate(prompts, options);
      expect(results.map(({tokens}) => tokens.length)).toEqual([5, 5, 5]);
      for (const [i, prompt] of prompts.entries()) {
        const {length} = (await lm.preprocessor!.promptTokens(prompt, {sequenceLength: 999})).tokens[0]!;
        const {text} = await lm.generate(prompt, {...options, maxNewTokens: undefined, maxLength: length + 5});
        expect(results[i]!.text).toBe(text);
      }
      lm.compile();
    },
  );

  test('takes maxLength or maxNewTokens, not both', async () => {
    await expect(lm.generate('a', {maxLength: 9, maxNewTokens: 4})).rejects.toThrow(
      'Received: maxLength=9 and maxNewTokens=4. Leave out one of them.',
    );
    await expect(lm.generate('a', {maxNewTokens: 0})).rejects.toThrow('maxNewTokens=0');
    const session = lm.startSession({maxLength: 12});
    const {length} = (await lm.preprocessor!.promptTokens('Hi')).tokens[0]!;
    const options = {session, stopTokenIds: null, logprobs: 0};
    expect((await lm.generate('Hi', {...options, maxNewTokens: 3})).tokens).toHaveLength(3);
    expect((await lm.generate('Hi', {...options, maxNewTokens: 99})).tokens).toHaveLength(12 - length);
    session.dispose();
  });

  test('takes and returns token ids without a preprocessor', async () => {
    await expectNoLeak(async () => {
      const bare = new Gemma3CausalLM({backbone});
      const inputs = {
        token_ids: tf.tensor1d([2, 5, 7, 0, 0, 0], 'int32'),
        padding_mask: tf.tensor1d([1, 1, 1, 0, 0, 0], 'bool'),
      };
      const out = await bare.generate(inputs, {stopTokenIds: null});
      expect(out.token_ids.shape).toEqual([6]);
      expect(Array.from((await out.token_ids.data()).slice(0, 3))).toEqual([2, 5, 7]);
      expect(Array.from(await out.padding_mask.data())).toEqual([1, 1, 1, 1, 1, 1]);
      tf.dispose([inputs, out]);
      bare.dispose();
    });
  });
});

describe('stream', () => {
  test('yields the text that `generate` returns, in whole characters', async () => {
    for (let seed = 0; seed < 5; seed++) {
      lm.compile({sampler: randomSampler(seed)});
      const options: GenerateOptions = {maxLength: 40, stopTokenIds: null};
      const pieces: string[] = [];
      await expectNoLeak(async () => {
        for await (const piece of lm.stream('a', options)) pieces.push(piece);
      });
      lm.compile({sampler: randomSampler(seed)});
      expect(pieces.join('')).toBe(await lm.generate('a', {...options, stripPrompt: true}));
      // Half of a surrogate pair does not survive encoding.
      for (const piece of pieces) expect(Buffer.from(piece).toString()).toBe(piece);
    }
    lm.compile();
  });

  const joined = async (prompt: string, options: GenerateOptions) => {
    const pieces: string[] = [];
    for await (const piece of lm.stream(prompt, options)) pieces.push(piece);
    return {text: pieces.join(''), pieces};
  };

  test.each(['Hi there', ' a', 'a▁b', '  ', '\u2581', 'é😀', '<bos>x', ''])(
    'yields the prompt %j first if asked, and joins to the text that `generate` returns',
    async prompt => {
      for (const stripPrompt of [undefined, true, false]) {
        const options = {maxLength: 16, stopTokenIds: null, stripPrompt};
        lm.compile({sampler: randomSampler(7)});
        const {text} = await joined(prompt, options);
        lm.compile({sampler: randomSampler(7)});
        expect(text).toBe(await lm.generate(prompt, {...options, stripPrompt: stripPrompt ?? true}));
      }
      lm.compile();
    },
  );

  test('yields the prompt before the model has read it', async () => {
    const stream = lm.stream('Hi there', {stripPrompt: false});
    const next = jest.spyOn(lm, 'nextLogits');
    await expectNoLeak(async () => {
      expect(await stream.next()).toEqual({done: false, value: 'Hi there'});
      expect(next).not.toHaveBeenCalled();
      await stream.return();
    });
    next.mockRestore();
  });

  test('yields nothing when an option is invalid or the result is already complete', async () => {
    const first = (options: object) => lm.stream('a', {stripPrompt: false, ...options}).next();
    await expect(first({stopTokenIds: 'never'})).rejects.toThrow(/"auto", null or a list of token ids/);
    await expect(first({maxLength: 0})).rejects.toThrow(/positive integer/);
    await expect(first({signal: AbortSignal.abort(new Error('enough'))})).rejects.toThrow('enough');
    await expect(first({stripPrompt: 'no'})).rejects.toThrow(/stream expected `stripPrompt` to be true or false/);
    await expect(first({strip: true})).rejects.toThrow(/stream has no argument "strip"/);
  });

  test('can be left early and aborted, and leaves no tensors behind', async () => {
    await expectNoLeak(async () => {
      for await (const piece of lm.stream('a', {stopTokenIds: null})) if (piece) break;
    });
    await expectNoLeak(async () => {
      const controller = new AbortController();
      const read = async () => {
        for await (const _ of lm.stream('a', {stopTokenIds: null, signal: controller.signal})) controller.abort();
      };
      await expect(read()).rejects.toThrow(/abort/i);
    });
  });
});

describe('invalid input', () => {
  test.each<[unknown, object, RegExp]>([
    ['a', {maxLenght: 3}, /no argument "maxLenght". Expected: maxLength/],
    ['a', {stripPrompt: 1}, /`stripPrompt` to be true or false. Received: stripPrompt=1/],
    ['a', {maxLength: 0}, /positive integer. Received: maxLength=0/],
    ['a', {stopTokenIds: 'never'}, /"auto", null or a list of token ids/],
    ['a', {stopTokenIds: [1, 100_000]}, /list of token ids in \[0, \d+\)\. Received: \[1,100000\]/],
    [3, {}, /prompts as a string/],
    [{prompts: 'a', images: []}, {}, /text-only/],
  ])('refuses to generate from %j with %j', async (inputs, options, message) => {
    await expect(lm.generate(inputs as string, options)).rejects.toThrow(message);
  });

  test('is refused by `stream`, `compile` and the constructor', async () => {
    await expect(lm.stream(['a', 'b']).next()).rejects.toThrow(/one prompt to stream. Received: 2/);
    await expect(lm.generate('a', {logprobs: -1})).rejects.toThrow(
      /tokens to report, 0 or more. Received: logprobs=-1/,
    );
    await expect(lm.stream('a', {logprobs: 1} as never).next()).rejects.toThrow(/stream has no argument "logprobs"/);
    expect(() => lm.compile({sampler: 'best' as never})).toThrow(/"greedy", "random"/);
    expect(() => lm.compile({metric: []} as never)).toThrow(/no argument "metric".*Did you mean "metrics"/);
    expect(() => new Gemma3CausalLM({backbone: null as never})).toThrow(/expected a Gemma3Backbone/);
    expect(() => new Gemma3CausalLM(undefined as never)).toThrow(/expected its arguments in one object/);
    expect(() => new Gemma3CausalLM({backbone, preprocessor: 'x' as never})).toThrow(/as `preprocessor`, or null/);
    expect(() => new Gemma3CausalLM({backbone, name: 3 as never})).toThrow(/`name` to be a string/);
  });

  test('is refused without a preprocessor', async () => {
    const bare = new Gemma3CausalLM({backbone});
    const ids = (values: number[], mask: number[]) => ({
      token_ids: tf.tensor1d(values, 'int32'),
      padding_mask: tf.tensor1d(mask, 'int32'),
    });
    await expect(bare.generate('a', {stopTokenIds: null})).rejects.toThrow(/expected {token_ids, padding_mask}/);
    await expect(bare.generate(ids([2], [1]))).rejects.toThrow(/`preprocessor` must be attached/);
    await expect(bare.generate(ids([2, 3, 0], [1, 0, 1]), {stopTokenIds: null})).rejects.toThrow(/gap in padding_mask/);
    await expect(bare.generate(ids([0, 0], [0, 0]), {stopTokenIds: null})).rejects.toThrow(/at least one token/);
    await expect(bare.generate(ids([], []), {stopTokenIds: null})).rejects.toThrow(/at least one token/);
    await expect(bare.generate(ids([2, 3], [1, 2]), {stopTokenIds: null})).rejects.toThrow(
      /0 for padding. Received: 2/,
    );
    const fractions = {token_ids: tf.tensor1d([2, 3.5]), padding_mask: tf.tensor1d([1, 1], 'int32')};
    await expect(bare.generate(fractions, {stopTokenIds: null})).rejects.toThrow(/integers. Received: 3.5/);
    expect(() => bare.score({tokenIds: tf.zeros([1, 0], 'int32')})).toThrow(
      /at least one token. Received: shape \[1,0\]/,
    );
    await expect(bare.generate(ids([2], [1]), {stopTokenIds: null, maxLength: 3})).rejects.toThrow(/leave out/);
    await expect(bare.stream('a').next()).rejects.toThrow(/preprocessor/);
    bare.dispose();
  });
});

test('is restored from its JSON and its weights', async () => {
  const text = lm.toJSON(undefined, true) as unknown as string;
  const copy = (await tf.models.modelFromJSON(JSON.parse(text) as never)) as unknown as Gemma3CausalLM;
  expect(copy).toBeInstanceOf(Gemma3CausalLM);
  expect(copy.backbone.getConfig()).toEqual(backbone.getConfig());
  tf.tidy(() => copy.setWeights(lm.getWeights()));
  const inputs = {token_ids: [[2, 7, 9]], padding_mask: [[1, 1, 1]]};
  const [a, b] = [lm.predict(inputs), copy.predict(inputs)] as [tf.Tensor, tf.Tensor];
  expect(await take(a)).toBeAllClose(await take(b), {atol: 0});
  copy.dispose();
});

test('shares the weights of its backbone, and does not dispose of them while the backbone is in use', () => {
  const before = tf.memory().numTensors;
  const own = makeBackbone('bfloat16');
  const task = new Gemma3CausalLM({backbone: own});
  expect(task.weights).toEqual(own.weights);
  expect(task.countParams()).toBe(own.countParams());
  task.dispose();
  expect(own.weights[0]!.shape).toEqual([tokenizer.vocabularySize, 32]);
  tf.dispose(own.predict({token_ids: [[2]], padding_mask: [[1]]}));
  own.dispose();
  expect(tf.memory().numTensors).toBe(before);
});

describe('stopStrings', () => {
  const options = {maxLength: 40, stopTokenIds: null, stripPrompt: true};
  beforeEach(() => lm.compile({sampler: randomSampler(7)}));
  afterEach(() => lm.compile());

  test('end each row of a batch separately, and a row that has ended is not computed further', async () => {
    const whole = await lm.generate(PROMPTS, options);
    const stops = whole.slice(0, 2).map((text, row) => text.slice(5 + row, 9 + row));
    const until = (text: string) => text.slice(0, Math.min(...stops.map(stop => text.indexOf(stop) >>> 0)));
    lm.compile({sampler: randomSampler(7)});
    let real = 0;
    const own = Gemma3CausalLM.prototype.hiddenSteps;
    const spy = jest.spyOn(lm, 'hiddenSteps').mockImplementation((tokens, cache) => {
      if (tokens.rows[0]!.length === 1) real += tokens.counts[1]!;
      return own.call(lm, tokens, cache);
    });
    expect(await lm.generate(PROMPTS, {...options, stopStrings: stops})).toEqual(whole.map(until));
    spy.mockRestore();
    const tokensOf = (text: string) => tokenizer.tokenize(text).length;
    expect(real).toBeLessThan(tokensOf(whole[1]!.slice(0, 11)) + 9);
  });

  test('remove text before it is streamed', async () => {
    const whole = await lm.generate('Hi there', options);
    const stop = whole.slice(6, 12);
    for (const stopStrings of [stop, [stop], [`${stop.slice(0, 4)}\u0000`, stop]]) {
      lm.compile({sampler: randomSampler(7)});
      let streamed = '';
      for await (const piece of lm.stream('Hi there', {...options, stopStrings})) {
        streamed += piece;
        expect(whole.slice(0, whole.indexOf(stop)).startsWith(streamed)).toBe(true);
      }
      expect(streamed).toBe(whole.slice(0, whole.indexOf(stop)));
    }
  });

  test('are not searched for in the prompt', async () => {
    const given = {...options, stripPrompt: false};
    const whole = await lm.generate('Hi there', given);
    lm.compile({sampler: randomSampler(7)});
    expect(await lm.generate('Hi there', {...given, stopStrings: ['Hi']})).toBe(whole);
  });

  test('must be texts, and need a preprocessor', async () => {
    for (const stopStrings of ['', [''], [3], {}]) {
      await expect(lm.generate('a', {stopStrings: stopStrings as never})).rejects.toThrow(
        'Expected stopStrings to be a text or a list of texts',
      );
    }
    const bare = new Gemma3CausalLM({backbone});
    await expect(bare.generate({} as never, {stopStrings: ['x']})).rejects.toThrow(/preprocessor.*stopStrings/);
    bare.dispose();
  });
});

test.each<[unknown, unknown, RegExp]>([
  [undefined, {}, /Expected prompts as a string or a list of strings.* Received: undefined/],
  [['a', undefined], {}, /Received: undefined/],
  [{prompt: 'a'}, {}, /has no argument "prompt". Expected: prompts, responses, images/],
  ['a', null, /generate expected an object with any of maxLength.* Received: null/],
  ['a', {signal: new AbortController()}, /signal to be an AbortSignal. Received: an AbortController: pass its/],
  ['a', {signal: 3}, /signal to be an AbortSignal. Received: 3/],
])('refuses %p with %p', async (prompts, options, message) => {
  await expect(lm.generate(prompts as string, options as never)).rejects.toThrow(message);
});

test('processes prompts in chunks, and reports progress', async () => {
  const progress: number[] = [];
  const options = {maxLength: 30, stopTokenIds: null};
  const onPrefill = ({tokens}: PrefillProgress) => progress.push(tokens);
  const texts = await lm.generate(PROMPTS, {...options, prefillChunk: 3, onPrefill});
  expect(texts).toEqual(await lm.generate(PROMPTS, options));
  expect(progress.length).toBeGreaterThan(2);
  await expect(lm.generate('a', {prefillChunk: 0})).rejects.toThrow('`prefillChunk` to be a positive integer');
  const bare = new Gemma3CausalLM({backbone});
  const ids = {token_ids: tf.ones([1, 3], 'int32'), padding_mask: tf.ones([1, 3], 'int32')};
  for (const prefillChunk of [0, -1, 1.5]) {
    const refused = bare.generate(ids, {prefillChunk, stopTokenIds: null});
    await expect(refused).rejects.toThrow('`prefillChunk` to be a positive integer');
  }
  tf.dispose(ids);
  bare.dispose();
});

test('has a cache for 1B and 8,192 tokens that is less than 30 % of one without sliding windows', async () => {
  const large = await Gemma3CausalLM.fromPreset('gemma3_1b', {loadWeights: false, preprocessor: null});
  const before = tf.memory().numBytes;
  const cache = large.newCache(1, 8192);
  expect(tf.memory().numBytes - before).toBeLessThan(16e6); // It grows with its tokens.
  const {numLayers, numKeyValueHeads, headDim} = large.backbone.getConfig() as Record<string, number>;
  for (const block of cache.blocks) {
    tf.tidy(() => {
      const tokens = tf.zeros<tf.Rank.R4>([1, 8192, numKeyValueHeads!, headDim!]);
      block.append(tokens, tokens, [8192]);
    });
  }
  const bytes = tf.memory().numBytes - before;
  cache.dispose();
  const dense = 2 * 4 * 8192 * numLayers! * numKeyValueHeads! * headDim!;
  expect(bytes).toBe(Gemma3Cache.byteLength(large.backbone, 8192));
  expect(bytes / dense).toBeLessThan(0.3);
  expect(bytes / dense).toBeCloseTo(0.2067, 4);
  large.dispose();
});

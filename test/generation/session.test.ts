/** A session generates the same texts as a fresh `generate`, without passing known tokens through the model again. */
import * as tf from '@tensorflow/tfjs';
import {ContextFullError, type Gemma3CausalLM, type GenerateOptions, samplers} from '../../src';
import {type Prompt} from '../../src/generation/decoder';
import {type GenerationSession} from '../../src/generation/session';
import {expectNoLeak} from '../support/numbers';
import {IMAGE_SIZE, IMAGE_TOKENS, smallModel, someTokens} from '../support/small_model';

let [lm, seeing]: Gemma3CausalLM[] = [];
beforeAll(() => {
  [lm, seeing] = [smallModel(), smallModel({vision: true})];
  tf.dispose(lm.predict({token_ids: [[2]], padding_mask: [[1]]}));
});
afterAll(() => {
  lm!.dispose();
  seeing!.dispose();
});

const PROMPTS = [
  'The quick brown fox',
  'The quick brown fox jumps over the lazy dog',
  'The quick brown fox jumps over the lazy cat',
  'Another beginning',
];
const options: GenerateOptions = {stopTokenIds: null, maxLength: 40};
/** A random model repeats its last token greedily; random sampling varies the text. */
const draw = () => lm!.compile({sampler: new samplers.RandomSampler({seed: 3, temperature: 3})});

/** Calls `run`, and counts the real tokens that pass through the model meanwhile. */
async function tokensPassed(model: Gemma3CausalLM, run: () => Promise<unknown>): Promise<number> {
  let count = 0;
  const spy = jest.spyOn(model, 'hiddenSteps').mockImplementation((tokens, cache) => {
    count += tokens.counts.reduce((a, b) => a + b);
    return (Object.getPrototypeOf(model) as Gemma3CausalLM).hiddenSteps.call(model, tokens, cache);
  });
  await run();
  spy.mockRestore();
  return count;
}

const idsOf = async (prompt: string): Promise<number[]> => (await lm!.preprocessor!.promptTokens(prompt)).tokens[0]!;
const common = (a: number[], b: number[]): number => a.findIndex((id, t) => id !== b[t]);

test('works only with its own model', async () => {
  const session = lm!.startSession({maxLength: 20});
  const copy = lm!.clone();
  await expect(copy.generate('a', {session})).rejects.toThrow('Expected a session of this model');
  await expect(lm!.generate('a', {session: {} as never})).rejects.toThrow('session to be a result of `startSession`');
  session.dispose();
  session.dispose();
  copy.dispose();
});

test('generates the same texts as without a session', async () => {
  await expectNoLeak(async () => {
    const session = lm!.startSession({maxLength: 40, slack: 40});
    for (const prompt of [...PROMPTS, PROMPTS[2]!, PROMPTS[2]!]) {
      draw();
      const fresh = await lm!.generate(prompt, options);
      draw();
      expect(await session.generate(prompt, options)).toBe(fresh);
      draw();
      let streamed = '';
      for await (const piece of session.stream(prompt, {...options, stripPrompt: false})) streamed += piece;
      expect(streamed).toBe(fresh);
    }
    session.dispose();
  });
  lm!.compile();
});

test('computes only the new tokens of a prompt', async () => {
  const session = lm!.startSession({maxLength: 64, slack: 40});
  const [first, second, third] = (await Promise.all(PROMPTS.map(idsOf))) as [number[], number[], number[], number[]];
  const few = (ids: number[]): GenerateOptions => ({stopTokenIds: null, maxLength: ids.length + 3});
  expect(await tokensPassed(lm!, () => session.generate(PROMPTS[0]!, few(first)))).toBe(first.length + 2);
  expect([session.reused, session.length]).toEqual([0, first.length + 2]);
  // Three new tokens, of which the last does not pass through the model.
  const inSecond = second.length - common(first.concat(-1), second);
  expect(await tokensPassed(lm!, () => session.generate(PROMPTS[1]!, few(second)))).toBe(inSecond + 2);
  expect(session.reused).toBe(second.length - inSecond);
  const inThird = third.length - common(third, second);
  expect(await tokensPassed(lm!, () => session.generate(PROMPTS[2]!, few(third)))).toBe(inThird + 2);
  // The same prompt again: only its last token passes through the model, to compute its logits.
  expect(await tokensPassed(lm!, () => session.generate(PROMPTS[2]!, few(third)))).toBe(1 + 2);
  session.dispose();
});

test('computes a prompt from the start if a sliding window has dropped keys that it needs', async () => {
  const session = lm!.startSession({maxLength: 64, slack: 2});
  await session.generate(PROMPTS[1]!, options);
  const ids = await idsOf(PROMPTS[2]!);
  const fresh = await lm!.generate(PROMPTS[2]!, options);
  expect(await tokensPassed(lm!, async () => expect(await session.generate(PROMPTS[2]!, options)).toBe(fresh))).toBe(
    39,
  );
  expect(session.reused).toBe(0);
  expect(ids.length).toBeLessThan(39);
  session.clear();
  expect(session.length).toBe(0);
  expect(await session.generate(PROMPTS[2]!, options)).toBe(fresh);
  session.dispose();
});

test('forks for several continuations', async () => {
  await expectNoLeak(async () => {
    const session = lm!.startSession({maxLength: 40});
    await session.generate(PROMPTS[0]!, {...options, maxLength: (await idsOf(PROMPTS[0]!)).length + 1});
    const forks = [session.fork(), session.fork()];
    for (const [i, fork] of forks.entries()) {
      const prompt = PROMPTS[i + 1]!;
      expect(await fork.generate(prompt, options)).toBe(await lm!.generate(prompt, options));
      expect(fork.reused).toBe(common((await idsOf(PROMPTS[0]!)).concat(-1), await idsOf(prompt)));
    }
    expect(session.length).toBe((await idsOf(PROMPTS[0]!)).length);
    for (const each of [session, ...forks]) each.dispose();
    session.dispose();
  });
});

test('throws an error for a prompt that does not fit, and still works afterwards', async () => {
  const session = lm!.startSession({maxLength: 8});
  const running = session.generate(PROMPTS[1]!);
  await expect(running).rejects.toThrow(ContextFullError);
  await expect(running).rejects.toThrow(/The session holds 8 tokens. Received: a prompt of 9 tokens or more/);
  expect(await session.generate('a', {stopTokenIds: null})).toBe(
    await lm!.generate('a', {maxLength: 8, stopTokenIds: null}),
  );
  await expect(session.generate(PROMPTS[1]!, {maxLength: 4})).rejects.toThrow(
    /at most 4 tokens. Received: a prompt of 4/,
  );
  const {length} = await idsOf('a b');
  const exact = lm!.startSession({maxLength: length});
  await expect(exact.generate('a b')).rejects.toThrow(ContextFullError);
  exact.dispose();
  session.dispose();
});

test('refuses invalid arguments, several prompts, two texts at once and use after disposal', async () => {
  await expectNoLeak(async () => {
    expect(() => lm!.startSession({maxLength: 0})).toThrow(/`maxLength` to be a positive integer/);
    expect(() => lm!.startSession({size: 3} as never)).toThrow('has no argument "size"');
    const session = lm!.startSession({maxLength: 20});
    await expect(session.generate('a', {maxLength: 21})).rejects.toThrow('at most 20, the length of the session');
    await expect(lm!.generate(['a', 'b'], {session})).rejects.toThrow('continues one prompt. Received: 2 prompts');
    const stream = session.stream(PROMPTS[0]!, {stopTokenIds: null});
    await stream.next();
    await expect(session.generate('a')).rejects.toThrow('is generating a text');
    expect(() => session.fork()).toThrow('is generating a text');
    await stream.return();
    await session.generate('a');
    session.dispose();
    await expect(session.generate('a')).rejects.toThrow('was disposed');
  });
});

test('continues after an abort between chunks and after a failure', async () => {
  await expectNoLeak(async () => {
    const session = lm!.startSession({maxLength: 40});
    const fresh = await lm!.generate(PROMPTS[1]!, options);
    const controller = new AbortController();
    const aborted = session.generate(PROMPTS[1]!, {
      ...options,
      prefillChunk: 4,
      onPrefill: ({tokens}) => tokens >= 8 && controller.abort(new Error('enough')),
      signal: controller.signal,
    });
    await expect(aborted).rejects.toThrow('enough');
    expect(session.length).toBe(8);
    expect(await session.generate(PROMPTS[1]!, options)).toBe(fresh);
    expect(session.reused).toBe(8);

    const block = lm!.backbone.transformerLayers[3]!;
    jest.spyOn(block, 'call').mockImplementationOnce(() => {
      throw new Error('no memory');
    });
    await expect(session.generate(PROMPTS[3]!, options)).rejects.toThrow('no memory');
    // Some blocks saw the tokens and others did not, so nothing is reused.
    expect(await session.generate(PROMPTS[1]!, options)).toBe(fresh);
    expect(session.reused).toBe(0);
    session.dispose();
  });
});

describe('with images', () => {
  const image = (seed: number) => tf.randomNormal([1, IMAGE_SIZE, IMAGE_SIZE, 3], 0, 1, 'float32', seed) as tf.Tensor4D;

  /** Text, an image, text, an image, text. */
  function prompt(seeds: [number, number], last: number): Prompt {
    const pictures = seeds.map(image);
    const visionMask: boolean[] = [];
    const tokens = [someTokens(3, 1), someTokens(3, 2), someTokens(3, last)].flatMap((text, i) => {
      visionMask.push(...text.map(() => false), ...(i < 2 ? Array<boolean>(IMAGE_TOKENS).fill(true) : []));
      return [...text, ...(i < 2 ? Array<number>(IMAGE_TOKENS).fill(4) : [])];
    });
    const images = tf.concat(pictures, 0);
    tf.dispose(pictures);
    return {tokens, visionMask, images};
  }

  async function run(given: Prompt, session?: GenerationSession): Promise<number[]> {
    const ids: number[] = [];
    const length = given.tokens.length + 4;
    for await (const [token] of seeing!.steps([given], {maxLength: length, stopTokenIds: null, session}))
      ids.push(token!);
    given.images!.dispose();
    return ids;
  }

  test('distinguishes images by their pixels', async () => {
    await run(prompt([1, 2], 3)); // initializes the weights
    await expectNoLeak(async () => {
      const session = seeing!.startSession({maxLength: 40, slack: 40}) as GenerationSession;
      for (const [seeds, last, reused] of [
        [[1, 2], 3, 0],
        // The same pixels in other tensors: only the last text is new.
        [[1, 2], 4, 6 + 2 * IMAGE_TOKENS],
        // The second image is another one.
        [[1, 3], 4, 6 + IMAGE_TOKENS],
        // Both images are other ones.
        [[2, 3], 4, 3],
      ] as [[number, number], number, number][]) {
        expect(await run(prompt(seeds, last), session)).toEqual(await run(prompt(seeds, last)));
        expect(session.reused).toBe(reused);
      }
      session.dispose();
    });
  });

  test('never keeps half an image', async () => {
    const session = seeing!.startSession({maxLength: 40, slack: 40}) as GenerationSession;
    const ends = () => {
      const {images, tokens, visionMask} = prompt([1, 2], 3);
      return {images, tokens: tokens.slice(0, -3), visionMask: visionMask!.slice(0, -3)};
    };
    const fresh = await run(ends());
    expect(await run(ends(), session)).toEqual(fresh);
    // The prompt ends with an image, and needs the logits after its last part: the whole image is computed again.
    expect(await run(ends(), session)).toEqual(fresh);
    expect(session.reused).toBe(6 + IMAGE_TOKENS);
    session.dispose();
  });
});

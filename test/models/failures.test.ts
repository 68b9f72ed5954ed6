/** Calls that fail, end early or have huge limits: they leave no tensors, and the next call works. */
import * as tf from '@tensorflow/tfjs';
import {ContextFullError, Gemma3CausalLM, samplers, useBackend, ValueError} from '../../src';
import {expectNoLeak} from '../support/numbers';

const QUESTION = '<start_of_turn>user\nWhat is the capital of France?<end_of_turn>\n<start_of_turn>model\n';

let lm: Gemma3CausalLM;
let answer: string;
beforeAll(async () => {
  await useBackend();
  lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  answer = await lm.generate(QUESTION, {maxLength: 64, stripPrompt: true});
});
afterAll(() => lm.dispose());
beforeEach(() => lm.compile());

/** The call fails, leaves nothing behind, and the next one returns the right text. */
async function expectFailure(call: () => Promise<unknown>, message: RegExp): Promise<void> {
  await expectNoLeak(async () => {
    const error = await call().then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(Error);
    expect((error as Error).message).toMatch(message);
    lm.compile();
    expect(await lm.generate(QUESTION, {maxLength: 64, stripPrompt: true})).toBe(answer);
  });
}

async function joined(pieces: AsyncGenerator<string, void>): Promise<string> {
  let text = '';
  for await (const piece of pieces) text += piece;
  return text;
}

describe('a limit far above the text', () => {
  test.each([1e6, 1e9, 2 ** 31, Number.MAX_SAFE_INTEGER])('costs nothing: maxLength %d', async maxLength => {
    const samplersToTry = [
      'greedy',
      new samplers.ContrastiveSampler({k: 2, alpha: 0}),
      new samplers.SpeculativeSampler({numSpeculativeTokens: 2}),
      new samplers.SpeculativeSampler({draft: lm, numSpeculativeTokens: 3}),
    ] as const;
    for (const sampler of samplersToTry.slice(0, maxLength === 1e9 ? 4 : 1)) {
      const before = tf.memory().numBytes;
      let most = 0;
      const onPrefill = () => (most = Math.max(most, tf.memory().numBytes - before));
      await expectNoLeak(async () => {
        lm.compile({sampler});
        const texts = await lm.generate([QUESTION, QUESTION], {maxLength, onPrefill, stripPrompt: true});
        expect(texts).toEqual([answer, answer]);
      });
      expect(most).toBeLessThan(32e6);
    }
  });

  test('in sessions and conversations', async () => {
    await expectNoLeak(async () => {
      const session = lm.startSession({maxLength: 1e9, slack: 1e9});
      for (let i = 0; i < 2; i++) expect(await session.generate(QUESTION, {stripPrompt: true})).toBe(answer);
      const copy = session.fork();
      expect(await joined(copy.stream(QUESTION))).toBe(answer);
      const chat = lm.startChat({maxLength: 1e9});
      expect(await chat.send('What is the capital of France?')).toBe(answer.replace('<end_of_turn>', ''));
      session.dispose();
      copy.dispose();
      chat.dispose();
    });
  });

  test.each([0, -1, 2.5, NaN, Infinity, 2 ** 53, '64', null])(
    'but it must be a number of tokens, not %p',
    async given => {
      const maxLength = given as number;
      const message = /`maxLength` to be a positive integer/;
      await expectFailure(() => lm.generate(QUESTION, {maxLength}), message);
      await expectFailure(() => joined(lm.stream(QUESTION, {maxLength})), message);
      await expectFailure(async () => lm.startSession({maxLength}), message);
      await expectFailure(async () => lm.startChat({maxLength}), message);
      await expectFailure(async () => lm.newCache(1, maxLength), message);
    },
  );
});

describe('nothing is left', () => {
  class Throwing extends samplers.Sampler {
    private calls = 0;
    override getNextToken(): number {
      if ((this.calls += 1) === 3) throw new RangeError('thrown by the sampler');
      return 300;
    }
  }
  class Outside extends samplers.Sampler {
    override getNextToken(): number {
      return 1e6;
    }
  }
  const aborted = () => {
    const controller = new AbortController();
    const onPrefill = () => controller.abort(new Error('stopped'));
    return {signal: controller.signal, onPrefill};
  };
  const throwing = () => ({
    onPrefill: () => {
      throw new Error('thrown by the callback');
    },
  });
  const compiled = (sampler: samplers.Sampler) => {
    lm.compile({sampler});
    return {};
  };
  const cases: [string, () => object, RegExp][] = [
    ['a sampler that throws', () => compiled(new Throwing()), /thrown by the sampler/],
    ['a sampler that chooses no token', () => compiled(new Outside()), /Expected Outside to choose one token/],
    ['a draft that fails', () => compiled(new samplers.SpeculativeSampler({draft: failingDraft()})), /draft failed/],
    ['an abort', aborted, /stopped/],
    ['a callback that throws', throwing, /thrown by the callback/],
    ['a prompt that is too long', () => ({maxLength: 3}), /at most 3 tokens/],
    ['an unusable option', () => ({stopStrings: ['']}), /stopStrings/],
    ['another unusable option', () => ({prefillChunk: 0}), /prefillChunk/],
  ];
  const failingDraft = () => {
    const draft = Object.create(lm) as Gemma3CausalLM;
    draft.hiddenSteps = () => {
      throw new Error('draft failed');
    };
    return draft;
  };

  test.each(cases)('after %s', async (_, options, message) => {
    await expectFailure(() => lm.generate(QUESTION, options()), message);
    await expectFailure(() => lm.generate([QUESTION, 'Once'], {...options(), logprobs: 1}), message);
    await expectFailure(() => joined(lm.stream(QUESTION, options())), message);
    await expectNoLeak(async () => {
      const session = lm.startSession({maxLength: 64});
      await expectFailure(() => session.generate(QUESTION, options()).finally(() => session.clear()), message);
      expect(await session.generate(QUESTION, {stripPrompt: true})).toBe(answer);
      session.dispose();
    });
  });

  test('after an allocation that fails', async () => {
    // A failure in the middle of a pass of the model, or while rows of the cache are copied.
    const session = lm.startSession({maxLength: 64});
    for (const sampler of ['greedy', 'beam'] as const) {
      for (const kernel of [
        'Gemma3CacheUpdate',
        'GatherV2',
        'Gemma3MatMulBfloat16',
        'Gemma3DecoderBlocks',
        'Identity',
      ]) {
        for (const failing of [5]) {
          await expectNoLeak(async () => {
            lm.compile({sampler});
            let calls = 0;
            const engine = tf.engine();
            const runKernel = engine.runKernel.bind(engine);
            const spy = jest.spyOn(engine, 'runKernel').mockImplementation((...args) => {
              if (args[0] === kernel && (calls += 1) === failing) throw new ValueError('no memory');
              return runKernel(...args);
            });
            const call = () => lm.generate([QUESTION, 'Once upon'], {maxLength: 20});
            const inSession = () => session.generate('Once upon', {maxLength: 12, stripPrompt: true});
            for (const run of [call, inSession, async () => session.fork().dispose()]) {
              calls = 0;
              await Promise.resolve(run()).catch((error: Error) => expect(error.message).toBe('no memory'));
            }
            spy.mockRestore();
            session.clear();
          });
        }
      }
    }
    lm.compile();
    expect(await session.generate(QUESTION, {stripPrompt: true})).toBe(answer);
    session.dispose();
  });

  test('after a conversation that is full, aborted or left', async () => {
    await expectNoLeak(async () => {
      const chat = lm.startChat({maxLength: 40});
      await expect(chat.send('x '.repeat(50))).rejects.toThrow(ContextFullError);
      const {signal} = aborted();
      for await (const piece of chat.stream('What is the capital of France?', {signal})) if (piece) break;
      chat.clear();
      expect(await chat.send('What is the capital of France?')).toBe(answer.replace('<end_of_turn>', ''));
      chat.dispose();
    });
  });
});

/** Conversations with a random model: their contents, and which tokens pass through the model. */
import * as tf from '@tensorflow/tfjs';
import {
  applyChatTemplate,
  type ChatSession,
  ContextFullError,
  Gemma3CausalLM,
  type GenerateOptions,
  samplers,
  SentencePiece,
} from '../../src';
import {type Prompt} from '../../src/generation/decoder';
import {expectNoLeak} from '../support/numbers';
import {IMAGE_SIZE, IMAGE_TOKENS, smallModel} from '../support/small_model';

let lm: Gemma3CausalLM;
beforeAll(() => {
  lm = smallModel({sequenceLength: 200});
  tf.dispose(lm.predict({token_ids: [[2]], padding_mask: [[1]]}));
});
afterAll(() => lm.dispose());
/** A random model repeats its last token greedily; random sampling varies the text. */
const draw = () => lm.compile({sampler: new samplers.RandomSampler({seed: 5, temperature: 3})});
beforeEach(draw);

/** Calls `run`, and records the prompts and the number of real tokens that pass through the model meanwhile. */
async function watch<T>(run: () => Promise<T>): Promise<{result: T; prompts: Prompt[]; passed: number}> {
  const prompts: Prompt[] = [];
  let passed = 0;
  const own = Gemma3CausalLM.prototype;
  const spies = [
    jest.spyOn(lm, 'steps').mockImplementation((given, ...rest) => {
      prompts.push(...given);
      return own.steps.call(lm, given, ...rest);
    }),
    jest.spyOn(lm, 'hiddenSteps').mockImplementation((tokens, cache) => {
      passed += tokens.counts.reduce((a, b) => a + b);
      return own.hiddenSteps.call(lm, tokens, cache);
    }),
  ];
  try {
    return {result: await run(), prompts, passed};
  } finally {
    spies.forEach(spy => spy.mockRestore());
  }
}

const idsOf = async (text: string): Promise<number[]> => (await lm.preprocessor!.promptTokens(text)).tokens[0]!;

test('answers as without a session, but each turn passes through the model only once', async () => {
  await expectNoLeak(async () => {
    const chat = lm.startChat({system: 'Be brief.'});
    let before = 0;
    for (const [i, question] of ['Hi', 'Why is the sky blue?', 'Thanks', 'a', 'b'].entries()) {
      draw();
      const {result, prompts, passed} = await watch(() => chat.send(question, {maxNewTokens: 6}));
      draw();
      const fresh: number[] = [];
      const options: GenerateOptions = {maxLength: prompts[0]!.tokens.length + 6};
      for await (const [token] of lm.steps(prompts, options)) fresh.push(token!);
      expect(result).toBe(lm.preprocessor!.tokenizer.detokenize(fresh));
      // The last token of the previous answer has not passed through the model yet.
      const unread = prompts[0]!.tokens.length - before + (i ? 1 : 0);
      expect(passed).toBe(unread + fresh.length - 1);
      expect(chat.reused).toBe(Math.max(0, before - 1));
      before = chat.length;
      expect(before).toBe(prompts[0]!.tokens.length + fresh.length);
    }
    expect(chat.history.map(({role}) => role).slice(0, 4)).toEqual(['system', 'user', 'assistant', 'user']);
    chat.dispose();
  });
});

test('passes the model the text that the template defines', async () => {
  const chat = lm.startChat({system: 'Be brief.'});
  const {prompts} = await watch(async () => {
    await chat.send('Hi', {maxNewTokens: 3});
    await chat.send(' Bye ', {maxNewTokens: 3});
  });
  const answer = chat.history[2]!.content as string;
  expect(prompts[0]!.tokens).toEqual(
    await idsOf(applyChatTemplate(chat.history.slice(0, 2), {addGenerationPrompt: true})),
  );
  const text = (tokens: readonly number[]) => lm.preprocessor!.tokenizer.detokenize(tokens);
  // Compared as text: the generated tokens may differ from the tokens of the same text.
  expect(text(prompts[1]!.tokens)).toBe(
    '<start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\n' +
      `${answer}<end_of_turn>\n<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n`,
  );
  expect(prompts[1]!.tokens.filter(id => id === 2)).toHaveLength(1);
  chat.dispose();
});

test('ends an answer before the end-of-turn token', async () => {
  const chat = lm.startChat();
  const end = lm.preprocessor!.tokenizer.tokenToId('<end_of_turn>');
  const ids = [50, 60, end];
  const sample = jest.spyOn(lm.sampler, 'sample').mockImplementation(async () => [ids.shift()!]);
  const answer = await chat.send('Hi');
  sample.mockRestore();
  expect(answer).toBe(lm.preprocessor!.tokenizer.detokenize([50, 60]));
  expect(chat.history[1]).toEqual({role: 'assistant', content: answer});
  expect(
    (await watch(() => chat.send('Bye', {maxNewTokens: 1}))).prompts[0]!.tokens.filter(id => id === end),
  ).toHaveLength(3);
  chat.dispose();
});

/** Answers `ids` to a first question, and returns the ids of the next prompt and those that the template gives. */
async function answered(ids: readonly number[], ask: (chat: ChatSession) => Promise<unknown>, onLast = () => {}) {
  const chat = lm.startChat();
  const rest = [...ids];
  const sample = jest.spyOn(lm.sampler, 'sample').mockImplementation(async () => {
    if (rest.length === 1) onLast();
    return [rest.shift()!];
  });
  await ask(chat);
  sample.mockRestore();
  const {history, length} = chat;
  const {prompts} = await watch(() => chat.send('Bye', {maxNewTokens: 1}));
  chat.dispose();
  const expected = await idsOf(
    applyChatTemplate([...history, {role: 'user', content: 'Bye'}], {addGenerationPrompt: true}),
  );
  return {answer: history[1]!.content as string, length, tokens: prompts[0]!.tokens, expected};
}

test.each([
  ['at the start of a token', ' quick', 'The'],
  ['within a token', 'ick', 'The qu'],
  ['over several tokens', 'quick brown', 'The '],
  ['at the start of the answer', 'The', ''],
])('keeps no token of a stop string %s', async (_where, stop, expected) => {
  const ids = lm.preprocessor!.tokenizer.tokenize('The quick brown fox');
  await expectNoLeak(async () => {
    const result = await answered(ids, chat => chat.send('Hi', {stopStrings: [stop]}));
    expect(result.answer).toBe(expected);
    expect(result.tokens).toEqual(result.expected);
    expect(result.length).toBe(
      (await idsOf('<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n')).length +
        lm.preprocessor!.tokenizer.tokenize(expected.trim()).length,
    );
  });
});

test('keeps only tokens whose text was yielded when an answer is aborted', async () => {
  const {tokenizer} = lm.preprocessor!;
  // Aborted after "x", the answer goes on with " qu" held back for a stop string, or with half a character.
  for (const [ids, options] of [
    [tokenizer.tokenize('x qu'), {stopStrings: [' quick']}],
    [[...tokenizer.tokenize('x'), tokenizer.tokenToId('<0xF0>')], {}],
  ] as const) {
    const controller = new AbortController();
    const ask = async (chat: ChatSession) => {
      const stream = chat.stream('Hi', {...options, signal: controller.signal});
      expect((await stream.next()).value).toBe('x');
      await expect(stream.next()).rejects.toThrow('enough');
    };
    const result = await answered(ids, ask, () => controller.abort(new Error('enough')));
    expect(result.answer).toBe('x');
    expect(result.tokens).toEqual(result.expected);
  }
});

test('keeps no token without text', async () => {
  const {tokenizer} = lm.preprocessor!;
  const [pad, bos, end] = ['<pad>', '<bos>', '<end_of_turn>'].map(token => tokenizer.tokenToId(token));
  const ids = [...tokenizer.tokenize('The'), pad!, bos!, ...tokenizer.tokenize(' fox'), end!];
  const {answer, tokens, expected} = await answered(ids, chat => chat.send('Hi'));
  expect(answer).toBe('The fox');
  expect(tokens).toEqual(expected);
});

test('refuses control tokens over several parts, and stays usable', async () => {
  const chat = lm.startChat();
  const content = ['<end_of_', 'turn>', '<start_of_', 'turn>model'].map(text => ({type: 'text', text}) as const);
  await expect(chat.send(content)).rejects.toThrow('without control tokens');
  await expect(chat.send('a<eos>')).rejects.toThrow('with <eos>');
  expect(chat.history).toEqual([]);
  await chat.send('Hi', {maxNewTokens: 1});
  chat.dispose();
});

test('regenerates an answer', async () => {
  await expectNoLeak(async () => {
    const chat = lm.startChat();
    const regenerate = async (options = {}) => {
      let text = '';
      for await (const piece of chat.regenerate({maxNewTokens: 5, ...options})) text += piece;
      return text;
    };
    await expect(regenerate()).rejects.toThrow('Expected a question to answer again');
    const first = await chat.send('Hi', {maxNewTokens: 5});
    const length = chat.length;
    draw();
    const {result, passed} = await watch(() => regenerate());
    expect(result).toBe(first);
    expect(passed).toBe(1 + 4);
    expect([chat.length, chat.history.length]).toEqual([length, 2]);
    // If the new answer fails, the old one stays.
    await expect(regenerate({signal: AbortSignal.abort(new Error('enough'))})).rejects.toThrow('enough');
    await expect(regenerate({maxNewTokens: 0})).rejects.toThrow('`maxNewTokens` to be a positive integer');
    expect(chat.history).toEqual([
      {role: 'user', content: 'Hi'},
      {role: 'assistant', content: first},
    ]);
    chat.dispose();
  });
});

test('keeps the part of an answer that was generated, and removes a question without an answer', async () => {
  await expectNoLeak(async () => {
    const chat = lm.startChat();
    let text = '';
    for await (const piece of chat.stream('Hi')) {
      text += piece;
      if (text.length > 3) break;
    }
    expect(chat.history.at(-1)).toEqual({role: 'assistant', content: text});
    await expect(chat.send('Bye', {signal: AbortSignal.abort(new Error('enough'))})).rejects.toThrow('enough');
    expect(chat.history).toHaveLength(2);
    await expect(chat.send('<end_of_turn>')).rejects.toThrow('without control tokens');
    await expect(chat.send('Bye', {maxLength: 3} as never)).rejects.toThrow('has no argument "maxLength"');
    expect(chat.history).toHaveLength(2);
    await chat.send('Bye', {maxNewTokens: 2});
    expect(chat.history).toHaveLength(4);
    chat.clear();
    expect([chat.history, chat.length]).toEqual([[], 0]);
    await chat.send('Hi', {maxNewTokens: 2});
    chat.dispose();
    await expect(chat.send('Hi')).rejects.toThrow('was disposed');
  });
});

test('throws an error when it is full', async () => {
  const chat = lm.startChat({maxLength: 30, slack: 0});
  await chat.send('Hi');
  expect(chat.length).toBe(30);
  await expect(chat.send('Bye')).rejects.toThrow(ContextFullError);
  expect(chat.history).toHaveLength(2);
  chat.clear();
  expect(await chat.send('Bye', {maxNewTokens: 2})).not.toBe('');
  chat.dispose();
});

test('keeps the images of earlier turns, and encodes each image once', async () => {
  const seeing = smallModel({vision: true, sequenceLength: 200});
  const image = (seed: number) => tf.randomNormal([1, IMAGE_SIZE, IMAGE_SIZE, 3], 0, 1, 'float32', seed) as tf.Tensor4D;
  const shown: [string, readonly unknown[]][] = [];
  // Replaces a preprocessor with images: inserts image tokens after the first token of the text.
  jest.spyOn(seeing, 'chatPrompt').mockImplementation(async (text, images) => {
    shown.push([text, images]);
    const {tokens} = await Gemma3CausalLM.prototype.chatPrompt.call(seeing, text.replace('<start_of_image>', ''), []);
    if (images.length === 0) return {tokens};
    const parts = Array<number>(IMAGE_TOKENS).fill(4);
    return {
      tokens: [tokens[0]!, ...parts, ...tokens.slice(1)],
      visionMask: [false, ...parts.map(() => true), ...tokens.slice(1).map(() => false)],
      images: image(images[0] as number),
    };
  });
  const ask = (text: string, number: number) => [
    {type: 'text', text} as const,
    {type: 'image', image: number} as const,
  ];
  await (async () => {
    const chat = seeing.startChat();
    await chat.send(ask('Warm', 1), {maxNewTokens: 1}); // initializes the weights
    chat.dispose();
  })();
  await expectNoLeak(async () => {
    const encode = jest.spyOn(seeing, 'encodeSteps');
    const chat = seeing.startChat();
    for (const [text, number] of [
      ['What?', 1],
      ['And this?', 2],
    ] as const) {
      await chat.send(ask(text, number), {maxNewTokens: 3});
    }
    await chat.send('Are they alike?', {maxNewTokens: 3});
    expect(encode.mock.calls.map(([{shape}]) => shape[0])).toEqual([1, 1]);
    expect(chat.promptLength - chat.reused).toBeLessThan(30);
    expect(shown[2]).toEqual([expect.stringContaining('user\nAnd this?<start_of_image><end_of_turn>'), [2]]);
    chat.dispose();
  });
  seeing.dispose();
});

test('refuses models without chat turns', () => {
  const bare = new Gemma3CausalLM({backbone: lm.backbone});
  expect(() => bare.startChat()).toThrow('A `preprocessor` must be attached');
  bare.dispose();
  const unknown = jest.spyOn(SentencePiece.prototype, 'pieceToId').mockReturnValue(3);
  expect(() => lm.startChat()).toThrow('Expected a vocabulary with <start_of_turn>');
  unknown.mockRestore();
  expect(() => lm.startChat({system: '<end_of_turn>'})).toThrow('without control tokens');
});

test('can be disposed more than once, and names its own arguments', () => {
  const chat = lm.startChat();
  chat.dispose();
  chat.dispose();
  expect(() => lm.startChat({systemPrompt: 'x'} as never)).toThrow('Expected: system, history, maxLength, slack.');
});

test('its history and the given parts are copied: changing them changes no turn', async () => {
  const chat = lm.startChat({system: 'Be brief.'});
  const part = {type: 'text' as const, text: 'Hi'};
  await chat.send([part], {maxNewTokens: 2});
  const before = chat.history;
  part.text = 'changed';
  for (const message of chat.history) message.content = 'changed';
  (before[1]!.content as unknown as (typeof part)[])[0]!.text = 'changed';
  expect(chat.history.slice(0, 2)).toEqual([
    {role: 'system', content: 'Be brief.'},
    {role: 'user', content: [{type: 'text', text: 'Hi'}]},
  ]);
  chat.dispose();
});

/** Conversations as prompts: `generate`, `stream`, `fit`, and the history that a chat starts with. */
import * as tf from '@tensorflow/tfjs';
import {
  applyChatTemplate,
  type ChatMessage,
  Gemma3CausalLM,
  Gemma3CausalLMPreprocessor,
  type Prompt,
  samplers,
} from '../../src';
import {answersOf} from '../../src/tokenizers/conversations';
import {expectNoLeak} from '../support/numbers';
import {smallModel} from '../support/small_model';

let lm: Gemma3CausalLM;
beforeAll(() => {
  lm = smallModel({sequenceLength: 200});
  tf.dispose(lm.predict({token_ids: [[2]], padding_mask: [[1]]}));
});
afterAll(() => lm.dispose());

const HELLO: ChatMessage[] = [{role: 'user', content: 'Hi'}];
const TALK: ChatMessage[] = [
  {role: 'system', content: 'Be brief.'},
  {role: 'user', content: 'Why is the sky blue?'},
  {role: 'assistant', content: 'Because of the air.'},
  {role: 'user', content: [{type: 'text', text: 'Thanks'}]},
];
const options = {maxNewTokens: 8, sampler: 'random', temperature: 3, seed: 3} as const;
const textOf = (messages: ChatMessage[]) => applyChatTemplate(messages, {addGenerationPrompt: true});
const idsOf = async (text: string): Promise<number[]> => (await lm.preprocessor!.promptTokens(text)).tokens[0]!;

test('are prompts: one, several, streamed, in a session and as token ids', async () => {
  await expectNoLeak(async () => {
    const answer: string = await lm.generate(TALK, options);
    expect(answer).toBe(await lm.generate(textOf(TALK), {...options, stripPrompt: true}));
    const both: string[] = await lm.generate([HELLO, TALK], options);
    expect(both).toEqual(await lm.generate([HELLO, TALK].map(textOf), {...options, stripPrompt: true}));
    const full = await lm.generate(TALK, {...options, stripPrompt: false});
    expect(full).toBe(await lm.generate(textOf(TALK), options));
    let streamed = '';
    for await (const piece of lm.stream(TALK, options)) streamed += piece;
    expect(streamed).toBe(answer);
    const session = lm.startSession();
    expect(await session.generate(TALK, options)).toBe(answer);
    session.dispose();
    const {text, finishReason} = await lm.generate(TALK, {...options, details: true});
    expect([text, finishReason]).toEqual([answer, 'length']);
    const {tokens, scalar} = await lm.preprocessor!.promptTokens(TALK);
    expect([tokens[0], scalar]).toEqual([await idsOf(textOf(TALK)), true]);
  });
});

test('are answered without the token that ends a turn, which the text of a prompt has', async () => {
  const tiny = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  const messages: ChatMessage[] = [{role: 'user', content: 'What is the capital of Italy?'}];
  const answer = 'The capital of Italy is Rome.';
  expect(await tiny.generate(messages)).toBe(answer);
  expect(await tiny.generate([messages], {stopTokenIds: [106]})).toEqual([answer]);
  const pieces: string[] = [];
  for await (const piece of tiny.stream(messages)) pieces.push(piece);
  expect(pieces.join('')).toBe(answer);
  const chat = tiny.startChat();
  expect(await chat.send('What is the capital of Italy?')).toBe(answer);
  chat.dispose();
  // As in KerasHub, whose prompts are texts.
  expect(await tiny.generate(textOf(messages), {stripPrompt: true})).toBe(`${answer}<end_of_turn>`);
  expect(await tiny.generate(messages, {stripPrompt: false})).toBe(`${textOf(messages)}${answer}<end_of_turn>`);
  // Here the token ends nothing, and what follows it would be unreadable without it.
  const whole = await tiny.generate(messages, {stopTokenIds: null, maxNewTokens: 12});
  expect(whole.startsWith(`${answer}<end_of_turn>`)).toBe(true);
  tiny.dispose();
});

test.each<[unknown, RegExp]>([
  [TALK.slice(0, 3), /user message at the end.*"assistant"/],
  [[{role: 'tool', content: 'x'}], /Received: "tool" as turn 1/],
  [[{role: 'user', content: 'x', images: []}], /A message has no argument "images"/],
  [[HELLO, 'x'], /messages as a list/],
  [[{role: 'user', content: '<end_of_turn>'}], /control tokens/],
])('refuses %j', async (messages, error) => {
  await expect(lm.generate(messages as ChatMessage[])).rejects.toThrow(error);
});

test('with images are prompts with images', async () => {
  const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny');
  const [red, blue] = [tf.fill([8, 8, 3], 200), tf.zeros<tf.Rank.R3>([8, 8, 3])];
  const image = (given: tf.Tensor) => ({type: 'image', image: given}) as const;
  const two: ChatMessage[] = [
    {role: 'user', content: [image(red), {type: 'text', text: 'What?'}]},
    {role: 'assistant', content: 'Red'},
    {role: 'user', content: [{type: 'text', text: 'And'}, image(blue)]},
  ];
  const compare = async (messages: readonly unknown[], prompts: string | string[], images: unknown) => {
    const x = await preprocessor.promptTokens(messages as ChatMessage[], {sequenceLength: 999});
    const y = await preprocessor.promptTokens({prompts, images: images as never}, {sequenceLength: 999});
    expect([x.tokens, x.visionMask, x.scalar]).toEqual([y.tokens, y.visionMask, y.scalar]);
    for (const [i, tensor] of x.images.entries()) {
      expect(tensor && Array.from(tensor.dataSync())).toEqual(y.images[i] && Array.from(y.images[i].dataSync()));
    }
    [...x.images, ...y.images].forEach(tensor => tensor?.dispose());
  };
  await compare(two, textOf(two), [red, blue]);
  await compare([two, HELLO], [textOf(two), textOf(HELLO)], [[red, blue], []]);
  expect(answersOf(two.slice(0, 2))[0]!.images).toEqual([red]);
  await expect(lm.generate(two)).rejects.toThrow(/text-only, but `images` is not null/);
  tf.dispose([red, blue]);
});

describe('for training', () => {
  test('teach each answer, with everything before it as its prompt', async () => {
    const talk: ChatMessage[] = [...TALK, {role: 'model', content: ' Welcome '}];
    const pairs = answersOf(talk);
    expect(pairs).toEqual([
      {prompt: textOf(talk.slice(0, 2)), response: 'Because of the air.<end_of_turn>', images: []},
      {prompt: textOf(talk.slice(0, 4)), response: 'Welcome<end_of_turn>', images: []},
    ]);
    for (const {prompt, response} of pairs) {
      expect(applyChatTemplate(talk).startsWith(prompt + response)).toBe(true);
    }
    const given = {prompts: pairs.map(({prompt}) => prompt), responses: pairs.map(({response}) => response)};
    lm.compile();
    expect(await lm.testOnBatch(talk)).toBe(await lm.testOnBatch(given));
    expect(await lm.testOnBatch([talk])).toBe(await lm.testOnBatch(given));
  });

  test('must end with an answer, without images in it', () => {
    expect(() => answersOf(TALK)).toThrow(/answer at the end.*role "user"/);
    const picture: ChatMessage[] = [...HELLO, {role: 'assistant', content: [{type: 'image'}]}];
    expect(() => answersOf(picture)).toThrow(/answers without images/);
  });
});

describe('as the history of a chat', () => {
  const prompts: Prompt[] = [];
  const watched = () => {
    const own = lm.steps.bind(lm);
    return jest.spyOn(lm, 'steps').mockImplementation((given, ...rest) => {
      prompts.push(...given);
      return own(given, ...rest);
    });
  };
  afterEach(() => {
    jest.restoreAllMocks();
    prompts.length = 0;
  });

  test('are read as if they had been said', async () => {
    await expectNoLeak(async () => {
      const spy = watched();
      const chat = lm.startChat({
        history: [{role: 'system', content: [{type: 'text', text: 'Be brief.'}]}, ...TALK.slice(1, 3)],
      });
      expect(chat.history).toEqual(TALK.slice(0, 3));
      const answer = await chat.send('Thanks', options);
      expect(prompts[0]!.tokens).toEqual(await idsOf(textOf(TALK)));
      expect(chat.history).toEqual([
        ...TALK.slice(0, 3),
        {role: 'user', content: 'Thanks'},
        {role: 'assistant', content: answer},
      ]);
      spy.mockRestore();
      expect(answer).toBe(await lm.generate(TALK, options));
      const copy = lm.startChat({history: chat.history});
      expect(copy.history).toEqual(chat.history);
      expect(copy.system).toBe('Be brief.');
      chat.clear();
      expect(chat.history).toEqual(TALK.slice(0, 1));
      chat.dispose();
      copy.dispose();
    });
  });

  test('can be answered again', async () => {
    const history: ChatMessage[] = [...HELLO, {role: 'model', content: 'Hello'}];
    const chat = lm.startChat({history});
    let text = '';
    for await (const piece of chat.regenerate(options)) text += piece;
    expect(chat.history).toEqual([...HELLO, {role: 'assistant', content: text}]);
    expect(text).toBe(await lm.generate(HELLO, options));
    chat.dispose();
  });

  test.each<[object, RegExp]>([
    [{history: TALK}, /to end with an answer.*Pass it to `send`/],
    [{history: TALK.slice(0, 3), system: 'x'}, /one system text.*both/],
    [{history: TALK.slice(2, 3)}, /roles must alternate/],
    [{history: 'x'}, /messages as a list/],
    [{history: null}, /messages as a list/],
    [{messages: []}, /no argument "messages"/],
  ])('refuses %j', (args, error) => {
    expect(() => lm.startChat(args)).toThrow(error);
  });
});

test('several chats on one model run at once, each as if it were alone', async () => {
  await expectNoLeak(async () => {
    const seeded = (seed: number) => ({maxNewTokens: 6, sampler: new samplers.RandomSampler({seed, temperature: 3})});
    const run = async (seed: number) => {
      const chat = lm.startChat({system: `Number ${seed}`});
      const answers = [await chat.send('Hi', seeded(seed)), await chat.send('And?', seeded(seed + 9))];
      chat.dispose();
      return answers;
    };
    const alone = [await run(1), await run(2), await run(3)];
    expect(await Promise.all([run(1), run(2), run(3)])).toEqual(alone);
  });
});

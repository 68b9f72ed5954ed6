/** `gemma3 generate --jsonl`: many prompts, one model. */
import {Readable} from 'node:stream';
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from 'tfjs-gemma3';
import {tinyPicture} from '../support/fixtures';
import {run, TINY} from './run';

const PROMPT = 'What is the capital of Peru?';
const MESSAGES = [{role: 'user', content: PROMPT}] as const;
const LIMIT = {maxNewTokens: 5};
const generate = (...argv: string[]) => ['generate', '--jsonl', '--max-new-tokens', '5', ...argv];
const jsonl = (...values: unknown[]) => values.map(value => `${JSON.stringify(value)}\n`).join('');
const objects = (text: string) =>
  text
    .split('\n')
    .slice(0, -1)
    .map(line => JSON.parse(line) as Record<string, unknown>);

describe('gemma3 generate --jsonl', () => {
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    lm = await Gemma3CausalLM.fromPreset(TINY);
  });
  afterAll(() => lm.dispose());

  test('answers each line as the library does, with its id', async () => {
    const before = tf.memory().numTensors;
    const images = [tinyPicture('red_circle')];
    const question = 'What is in the picture?';
    const stdin = jsonl(
      {id: 7, prompt: PROMPT},
      {id: {row: 'b'}, messages: MESSAGES},
      {prompt: question, images},
      {id: null, prompt: 'a\u2028b', images: []},
    );
    const {code, stdout, stderr} = await run(generate(), {stdin: `\n${stdin} \r\n`});
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    const numbers = {prefillSeconds: expect.any(Number), decodeSeconds: expect.any(Number), backend: tf.getBackend()};
    const answer = async (prompt: string | {prompts: string; images: string[]} | typeof MESSAGES) => {
      const {text, finishReason, usage} = await lm.generate(prompt as string, {...LIMIT, details: true});
      return {text, finishReason, ...usage, ...numbers};
    };
    expect(objects(stdout)).toEqual([
      {id: 7, ...(await answer(PROMPT))},
      {id: {row: 'b'}, ...(await answer(MESSAGES))},
      await answer({prompts: `<start_of_image> ${question}`, images}),
      {id: null, ...(await answer('a\u2028b'))},
    ]);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('takes the options of the prompts', async () => {
    const stdin = jsonl({prompt: PROMPT}, {messages: MESSAGES});
    const {stdout} = await run(generate('--strip-prompt', '--logprobs', '1'), {stdin});
    const expected = await lm.generate(PROMPT, {...LIMIT, stripPrompt: true, logprobs: 1});
    const [first, second] = objects(stdout);
    expect(first!.text).toBe(expected.text);
    expect(first!.tokens).toHaveLength(expected.tokens.length);
    expect(second!.text).toBe(await lm.generate(MESSAGES, LIMIT));
  });

  test('reports lines that cannot be answered, and answers the others', async () => {
    const long = 'word '.repeat(40);
    const lines: [unknown, RegExp][] = [
      ['"text"', /^Expected {"prompt": "…"}, .*\. Received: "text"\.$/],
      ['{"prompt": ', /Received: {"prompt": , which is not JSON: /],
      [{id: 3}, /Received: no "prompt"\.$/],
      [{id: 4, prompt: 1}, /Received: a "prompt" that is not a string/],
      [{id: 5, prompt: 'a', image: 'a.png'}, /Received: the key "image"\. Put anything to copy/],
      [{id: 6, prompt: 'a', images: 'a.png'}, /Received: "images" that are not a list of file names/],
      [{id: 7, prompt: 'a', messages: []}, /Received: "messages" and "prompt"/],
      [{id: 8, messages: 'a'}, /Received: "messages" that are not a list/],
      [{id: 9, messages: []}, /message/],
      [{id: 10, prompt: 'a', images: ['no such.png']}, /no such\.png/],
      [{id: 11, prompt: long}, /fills all 24 tokens.* Raise --max-length/],
      [{id: 12, messages: [PROMPT, PROMPT]}, /"messages" that are not a list of messages/],
      [{id: 13, messages: [{role: 'poet', content: 'a'}]}, /poet/],
    ];
    const stdin = lines.map(([value]) => (typeof value === 'string' ? value : JSON.stringify(value))).join('\n');
    const {code, stdout, stderr} = await run(['generate', '--jsonl', '--max-length', '24'], {
      stdin: `${stdin}\n${jsonl({id: 14, prompt: PROMPT})}`,
    });
    const answers = objects(stdout);
    lines.forEach(([value, message], i) => {
      const id = typeof value === 'string' ? {} : {id: i + 1};
      expect(answers[i]).toEqual({...id, line: i + 1, error: expect.stringMatching(message) as string});
    });
    expect(answers[13]).toMatchObject({id: 14, text: await lm.generate(PROMPT, {maxLength: 24})});
    expect(code).toBe(1);
    expect(stderr).toBe('error: 13 of 14 lines could not be answered: see "error" in the output.\n');
  });

  test('refuses bytes that are not UTF-8, in their line only', async () => {
    const bytes = Buffer.concat([
      Buffer.from('{"prompt": "caf'),
      Buffer.of(0xe9),
      Buffer.from(`"}\n${jsonl({prompt: PROMPT})}`),
    ]);
    // In two pieces, neither of which ends with a line.
    const keyboard = Object.assign(Readable.from([bytes.subarray(0, 4), bytes.subarray(4)]), {isTTY: false});
    const {stdout} = await run(generate(), {keyboard});
    const [first, second] = objects(stdout);
    expect(first).toMatchObject({line: 1, error: expect.stringMatching(/UTF-8 in line 1 of standard input/) as string});
    expect(second!.text).toBe(await lm.generate(PROMPT, LIMIT));
  });

  test('answers a line before the next one arrives', async () => {
    const keyboard = new Readable({read() {}});
    keyboard.push(jsonl({id: 1, prompt: PROMPT}));
    const seen: unknown[] = [];
    const onText = (text: string) => {
      seen.push((JSON.parse(text) as {id: number}).id);
      if (seen.length === 1) keyboard.push(jsonl({id: 2, prompt: PROMPT}));
      else keyboard.push(null);
    };
    expect(await run(generate(), {keyboard, onText})).toMatchObject({code: 0});
    expect(seen).toEqual([1, 2]);
  });

  test('prints nothing for no lines, and stops when interrupted', async () => {
    expect(await run(generate(), {stdin: ''})).toMatchObject({code: 0, stdout: '', stderr: ''});
    const controller = new AbortController();
    const keyboard = new Readable({read() {}});
    keyboard.push(jsonl({id: 1, prompt: PROMPT}));
    const {code, stdout, stderr} = await run(generate(), {
      keyboard,
      signal: controller.signal,
      onText: () => controller.abort(new Error('Interrupted.')),
    });
    expect({code, stderr}).toEqual({code: 130, stderr: ''});
    expect(objects(stdout)).toHaveLength(1);
  });

  test.each([
    [[PROMPT], /'--jsonl' reads prompts from standard input\. Leave out 'PROMPT'/],
    [['--image', 'a.png'], /'--jsonl' takes images from its lines/],
    [['--json'], /'--json' and '--jsonl' exclude each other/],
    [['--details'], /'--details' has no effect with '--jsonl'/],
  ])('refuses %j', async (argv, message) => {
    const {code, stdout, stderr} = await run(generate(...argv), {stdin: ''});
    expect({code, stdout}).toEqual({code: 2, stdout: ''});
    expect(stderr).toMatch(message);
  });
});

/** `gemma3 chat`, in a pipe and on a terminal. */
import {PassThrough} from 'node:stream';
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from 'tfjs-gemma3';
import {Interrupts} from '../../cli/support/interrupts';
import {tinyPicture} from '../support/fixtures';
import {run, TINY} from './run';

const SHORT = ['--max-new-tokens', '5'];
const chat = (...argv: string[]) => ['chat', '--preset', TINY, ...argv];
const lines = (...texts: string[]) => texts.map(text => `${text}\n`).join('');

describe('gemma3 chat', () => {
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    lm = await Gemma3CausalLM.fromPreset(TINY);
  });
  afterAll(() => lm.dispose());

  async function answers(questions: string[], system?: string): Promise<string[]> {
    const session = lm.startChat({...(system !== undefined && {system})});
    const texts = [];
    for (const question of questions) texts.push(await session.send(question, {maxNewTokens: 5}));
    session.dispose();
    return texts;
  }

  test('streams an answer to each line of a pipe, and remembers earlier turns', async () => {
    const before = tf.memory().numTensors;
    const questions = ['What is the capital of France?', 'And of Spain?'];
    const {code, stdout, stderr, pieces} = await run(chat(...SHORT), {stdin: lines(questions[0]!, '', questions[1]!)});
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    expect(stdout).toBe(lines(...(await answers(questions))));
    expect(pieces.length).toBeGreaterThan(4);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('begins with the system instructions', async () => {
    const {stdout} = await run(chat(...SHORT, '--system', 'Be brief.'), {stdin: 'Hi'});
    expect(stdout).toBe(lines(...(await answers(['Hi'], 'Be brief.'))));
  });

  test('prints one object per turn, and does not process earlier turns again', async () => {
    const {code, stdout, stderr} = await run(chat(...SHORT, '--json'), {stdin: lines('a', 'a', 'a', 'a')});
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    const turns = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as Record<string, number>);
    expect(turns.map(({text}) => text)).toEqual(await answers(['a', 'a', 'a', 'a']));
    for (const turn of turns) {
      expect(Object.keys(turn)).toEqual([
        ...['text', 'finishReason', 'promptTokens', 'reusedTokens', 'newTokens', 'prefillSeconds', 'decodeSeconds'],
      ]);
      expect(turn.newTokens).toBe(5);
    }
    const passed = turns.map(({promptTokens, reusedTokens}) => promptTokens! - reusedTokens!);
    // Each turn after the first processes the same tokens: the last token of the previous answer, the turn markers and
    // the question.
    expect(passed[2]).toBe(passed[1]);
    expect(passed[3]).toBe(passed[1]);
    expect(turns[3]!.promptTokens).toBeGreaterThan(turns[0]!.promptTokens! + 20);
  });

  test('understands commands', async () => {
    const [first] = await answers(['a']);
    const {code, stdout, stderr} = await run(chat(...SHORT), {
      stdin: lines('a', '/again', '/clear', 'a', '/exit', 'a'),
    });
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    expect(stdout).toBe(lines(first!, first!, first!));
    expect((await run(chat(), {stdin: '/help'})).stderr).toMatch(/\/clear +forget/);
    expect((await run(chat(...SHORT), {stdin: ' /clear'})).stdout).toBe(lines(...(await answers(['/clear']))));
    const unknown = await run(chat(), {stdin: '/quit'});
    expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('Unknown command /quit. Type /help')]);
  });

  test('attaches images to the next question, each once', async () => {
    const [square, ring] = ['blue_square', 'yellow_ring'].map(name => tinyPicture(name)) as [string, string];
    const before = tf.memory().numTensors;
    const argv = chat('--max-new-tokens', '9', '--json');
    const stdin = lines(
      `/image ${square}`,
      `/image ${ring}`,
      'What is in these images?',
      'And now?',
      '/clear',
      'And now?',
    );
    const {code, stdout, stderr} = await run(argv, {stdin});
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    expect(tf.memory().numTensors).toBe(before);
    const session = lm.startChat();
    const image = (image: string) => ({type: 'image', image}) as const;
    const question = [image(square), image(ring), {type: 'text', text: 'What is in these images?'} as const];
    const expected = [
      await session.send(question, {maxNewTokens: 9}),
      await session.send('And now?', {maxNewTokens: 9}),
    ];
    session.clear();
    expected.push(await session.send('And now?', {maxNewTokens: 9}));
    session.dispose();
    const turns = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as {text: string; promptTokens: number});
    expect(turns.map(({text}) => text)).toEqual(expected);
    // 16 tokens per image, and the tokens around them.
    expect(turns[0]!.promptTokens).toBeGreaterThan(turns[2]!.promptTokens + 32);
    const wrong = await run(chat(), {stdin: '/image nothing.png'});
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringMatching(/image file at "nothing.png"/)]);
    const nameless = await run(chat(), {stdin: '/image'});
    expect([nameless.code, nameless.stderr]).toEqual([1, expect.stringContaining('name of a file after /image')]);
  });

  test('accepts a draft model', async () => {
    const {code, stdout} = await run(chat(...SHORT, '--draft', TINY), {stdin: lines('a', 'b')});
    expect([code, stdout]).toEqual([0, lines(...(await answers(['a', 'b'])))]);
  });

  test('ends an answer before a stop text', async () => {
    const [whole] = await answers(['a']);
    const {stdout} = await run(chat(...SHORT, '--stop', whole!.slice(2, 4), '--stop', 'no such text'), {stdin: 'a'});
    expect(stdout).toBe(`${whole!.slice(0, whole!.indexOf(whole!.slice(2, 4)))}\n`);
  });

  test('says that the conversation is full', async () => {
    const full = /The conversation fills its 24 tokens. Start over with \/clear, or restart with a larger --max-length/;
    const cut = await run(chat('--max-length', '24'), {stdin: 'a'});
    expect([cut.code, cut.stderr]).toEqual([0, expect.stringMatching(full)]);
    const refused = await run(chat('--max-length', '24'), {stdin: lines('a', 'a')});
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(new RegExp(`error: ${full.source}`))]);
    expect(refused.stdout).toBe(cut.stdout);
  });

  test.each([
    [['--max-length', '0'], /above 0/],
    [['--stop', ''], /not empty/],
    [['--sampler', 'greedy', '--seed', '1'], /no effect with the sampler greedy/],
  ])('refuses %j', async (argv, message) => {
    const {code, stderr} = await run(chat(...argv), {stdin: 'a'});
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });

  // === On a terminal ===

  test('prompts, continues after an error, and ends with the input', async () => {
    const keyboard = new PassThrough();
    keyboard.end(lines('<end_of_turn>', '/quit', 'a'));
    const {code, stdout, stderr} = await run(chat(...SHORT), {keyboard, terminal: true});
    expect(code).toBe(0);
    expect(stdout).toBe(lines(...(await answers(['a']))));
    expect(stderr).toMatch(/Chat with gemma3_tiny\. Type \/help/);
    expect(stderr).toMatch(/> /);
    expect(stderr).toMatch(/without control tokens/);
    expect(stderr).toMatch(/Unknown command \/quit/);
  });

  test('stops an answer at the first Ctrl-C and ends at the second', async () => {
    const before = tf.memory().numTensors;
    const [keyboard, interrupts] = [new PassThrough(), new Interrupts()];
    keyboard.write('a\n');
    let presses = 0;
    const onText = (piece: string) => {
      // The first Ctrl-C comes during the answer, the second at the prompt for the next question.
      if (piece !== '\n' && presses++ === 0) interrupts.press();
      if (piece === '\n') keyboard.write('\u0003');
    };
    const {code, stdout} = await run(chat('--max-length', '400'), {keyboard, terminal: true, interrupts, onText});
    expect(code).toBe(130);
    expect(stdout.length).toBeLessThan(60);
    expect(stdout).toMatch(/\n$/);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('ends at once when Ctrl-C is pressed twice during an answer', async () => {
    const interrupts = new Interrupts();
    const onText = () => {
      interrupts.press();
      interrupts.press();
    };
    const {code, stdout} = await run(chat(), {stdin: lines('a', 'a'), interrupts, onText});
    expect(code).toBe(130);
    expect(stdout.split('\n').length).toBeLessThanOrEqual(2);
  });
});

/** `gemma3 generate` with text prompts. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, samplers, type TextWithLogprobs} from 'tfjs-gemma3';
import {run, TINY} from './run';

const PROMPT = 'What is the capital';
const LIMIT = ['--max-length', '16'];
const generate = (...argv: string[]) => ['generate', '--preset', TINY, ...argv];

describe('gemma3 generate', () => {
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    lm = await Gemma3CausalLM.fromPreset(TINY);
  });
  afterAll(() => lm.dispose());
  beforeEach(() => lm.compile());

  // === Text ===

  test('streams the text that `generate` returns', async () => {
    const before = tf.memory().numTensors;
    const {code, stdout, stderr, pieces} = await run(generate(PROMPT, ...LIMIT));
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    expect(stdout).toBe(`${await lm.generate(PROMPT, {maxLength: 16})}\n`);
    expect(pieces.length).toBeGreaterThan(3);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('prints the prompt as decoded from its tokens', async () => {
    const {stdout} = await run(generate('a\u2581b', ...LIMIT));
    expect(stdout).toMatch(/^a b/);
    expect(stdout).toBe(`${await lm.generate('a\u2581b', {maxLength: 16})}\n`);
  });

  test('prints only the new text with --strip-prompt', async () => {
    const {stdout} = await run(generate(PROMPT, '--strip-prompt', ...LIMIT));
    expect(stdout).toBe(`${await lm.generate(PROMPT, {maxLength: 16, stripPrompt: true})}\n`);
  });

  test('ends before a stop text', async () => {
    const whole = await lm.generate(PROMPT, {maxLength: 16, stripPrompt: true});
    const stop = whole.slice(3, 6);
    for (const json of [[], ['--json']]) {
      const {stdout} = await run(
        generate(PROMPT, '--strip-prompt', '--stop', stop, '--stop', '###', ...json, ...LIMIT),
      );
      const text = json.length ? (JSON.parse(stdout) as {text: string}).text : stdout.slice(0, -1);
      expect(text).toBe(whole.slice(0, whole.indexOf(stop)));
    }
  });

  test('answers a sample question without arguments', async () => {
    for (const stdin of [undefined, '']) {
      const {code, stdout} = await run(['generate'], {stdin});
      expect(code).toBe(0);
      expect(stdout).toMatch(/^What is the capital of France\?./);
    }
  });

  test('reports that a prompt leaves no room for new text', async () => {
    const {code, stdout, stderr} = await run(generate(PROMPT, '--max-length', '2'));
    expect(code).toBe(1);
    expect(stdout).toBe('\n');
    expect(stderr).toMatch(/fills all 2 tokens, so there is no new text. Raise --max-length/);
  });

  // === JSON ===

  test.each([false, true])('prints one object, stripPrompt: %s', async stripPrompt => {
    const before = tf.memory().numTensors;
    const {code, stdout, stderr} = await run(
      generate(PROMPT, '--json', ...LIMIT, ...(stripPrompt ? ['--strip-prompt'] : [])),
      {terminal: false},
    );
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
    const promptTokens = (await lm.preprocessor!.promptTokens(PROMPT, {})).tokens[0]!.length;
    const result = JSON.parse(stdout) as Record<string, unknown>;
    expect(result).toEqual({
      text: await lm.generate(PROMPT, {maxLength: 16, stripPrompt}),
      finishReason: (await lm.generate(PROMPT, {maxLength: 16, details: true})).finishReason,
      promptTokens,
      newTokens: expect.any(Number),
      prefillSeconds: expect.any(Number),
      decodeSeconds: expect.any(Number),
      backend: tf.getBackend(),
    });
    expect(result.newTokens).toBeGreaterThan(0);
    expect(result.newTokens).toBeLessThanOrEqual(16 - promptTokens);
    expect(result.prefillSeconds).toBeGreaterThan(0);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('limits the new text alone, and says why it ended', async () => {
    const {usage, text} = await lm.generate(PROMPT, {maxNewTokens: 3, details: true, stopTokenIds: null});
    const short = generate(PROMPT, '--max-new-tokens', '3');
    const {stdout, stderr} = await run([...short, '--details']);
    expect(stdout).toBe(`${text}\n`);
    expect(stderr).toBe(
      `Ended at the maximum length (length): ${usage.promptTokens} tokens in the prompt, 3 new tokens.\n`,
    );
    expect(JSON.parse((await run([...short, '--json'])).stdout)).toMatchObject({
      text,
      finishReason: 'length',
      ...usage,
    });
    const long = await run(generate('What is the capital of France?', '--max-new-tokens', '40', '--details'));
    expect(long.stderr).toMatch(/^Ended at the end of the text, of a turn or at a stop text \(stop\): \d+ tokens/);
    for (const [argv, message] of [
      [['--json', '--details'], /'--details' has no effect with '--json'/],
      [['--max-length', '20'], /'--max-length' and '--max-new-tokens' exclude each other/],
      [['--max-new-tokens', '0'], /Expected a whole number above 0/],
    ] as const) {
      expect(await run([...short, ...argv])).toMatchObject({code: 2, stderr: expect.stringMatching(message) as string});
    }
  });

  test('prints log probabilities of the new tokens', async () => {
    const {stdout} = await run(generate(PROMPT, '--json', '--logprobs', '2', ...LIMIT));
    const {text, tokens, newTokens} = JSON.parse(stdout) as TextWithLogprobs & {newTokens: number};
    const expected = await lm.generate(PROMPT, {maxLength: 16, logprobs: 2});
    expect(text).toBe(expected.text);
    expect(tokens).toHaveLength(newTokens);
    // The command's model stores its weights in the layout of another backend.
    tokens.forEach(({logprob, ...token}, i) => {
      expect(logprob).toBeCloseTo(expected.tokens[i]!.logprob, 4);
      expect(token.top.map(({id, text}) => [id, text])).toEqual(
        expected.tokens[i]!.top.map(({id, text}) => [id, text]),
      );
    });
    expect(tokens[0]!.top).toHaveLength(2);
    expect(tokens[0]!.top[0]).toEqual({id: tokens[0]!.id, text: tokens[0]!.text, logprob: tokens[0]!.logprob});
    const {code, stderr} = await run(generate(PROMPT, '--logprobs', '2'));
    expect(code).toBe(2);
    expect(stderr).toMatch(/'--logprobs' has no effect without '--json'/);
  });

  test('prints no object when a prompt leaves no room for new text', async () => {
    const {code, stdout, stderr} = await run(generate(PROMPT, '--json', '--max-length', '2'));
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/fills all 2 tokens, so there is no new text. Raise --max-length/);
  });

  // === Standard input ===

  test.each([
    ['-', 'What is\nthe capital\n'],
    ['-', 'What is\nthe capital\r\n'],
    [undefined, 'What is\nthe capital'],
  ])('reads the prompt %s from %j', async (prompt, stdin) => {
    const {stdout} = await run(generate(...(prompt ? [prompt] : []), ...LIMIT), {stdin});
    expect(stdout).toBe(`${await lm.generate('What is\nthe capital', {maxLength: 16})}\n`);
  });

  test.each([[undefined], ['']])('refuses a missing prompt: stdin %j', async stdin => {
    const {code, stdout, stderr} = await run(generate(), {stdin});
    expect({code, stdout}).toEqual({code: 2, stdout: ''});
    expect(stderr).toMatch(/missing argument 'PROMPT'/);
  });

  // === Samplers ===

  test.each([
    [['--top-k', '4', '--seed', '3'], () => new samplers.TopKSampler({k: 4, seed: 3})],
    [['--sampler', 'top_k', '--seed', '3'], () => new samplers.TopKSampler({seed: 3})],
    [
      ['--top-p', '0.9', '--top-k', '8', '--seed', '3', '--temperature', '1.5'],
      () => new samplers.TopPSampler({p: 0.9, k: 8, seed: 3, temperature: 1.5}),
    ],
    [['--seed', '-3'], () => new samplers.RandomSampler({seed: -3})],
    [['--sampler', 'greedy'], () => new samplers.GreedySampler()],
    [['--min-p', '0.2', '--seed', '3'], () => new samplers.RandomSampler({minP: 0.2, seed: 3})],
    [['--repetition-penalty', '1.4'], () => new samplers.GreedySampler({repetitionPenalty: 1.4})],
    [['--num-beams', '3'], () => new samplers.BeamSampler({numBeams: 3})],
    [
      ['--sampler', 'contrastive', '--top-k', '3', '--alpha', '0.9'],
      () => new samplers.ContrastiveSampler({k: 3, alpha: 0.9}),
    ],
    [['--sampler', 'speculative'], () => new samplers.GreedySampler()],
    [['--draft', TINY], () => new samplers.GreedySampler()],
    [
      ['--sampler', 'speculative', '--top-k', '4', '--seed', '3'],
      () => new samplers.SpeculativeSampler({baseSampler: new samplers.TopKSampler({k: 4, seed: 3})}),
    ],
  ])('samples as asked: %j', async (argv, sampler) => {
    lm.compile({sampler: sampler()});
    const {code, stdout} = await run(generate(PROMPT, ...LIMIT, ...argv));
    expect(code).toBe(0);
    expect(stdout).toBe(`${await lm.generate(PROMPT, {maxLength: 16})}\n`);
  });

  test.each([
    ['greedy', '--seed', 'random, top_k, top_p or speculative'],
    ['greedy', '--temperature', 'random, top_k, top_p, beam, contrastive or speculative'],
    ['greedy', '--min-p', 'random, top_k, top_p or speculative'],
    ['random', '--top-k', 'top_k, top_p, contrastive or speculative'],
    ['top_k', '--top-p', 'top_p or speculative'],
    ['beam', '--alpha', 'contrastive'],
    ['contrastive', '--num-beams', 'beam'],
    ['random', '--draft', 'speculative'],
  ])('refuses what %s does not read: %s', async (sampler, option, readers) => {
    const {code, stdout, stderr} = await run(generate(PROMPT, '--sampler', sampler, option, '1'));
    expect({code, stdout}).toEqual({code: 2, stdout: ''});
    expect(stderr).toContain(`'${option}' has no effect with the sampler ${sampler}. Use it with ${readers},`);
  });

  test.each([
    ['--max-length', 'abc'],
    ['--max-length', '0'],
    ['--max-length', '1.5'],
    ['--max-length', '-1'],
    ['--sampler', 'best'],
    ['--top-k', '0'],
    ['--top-p', '0'],
    ['--top-p', '1.1'],
    ['--temperature', '0'],
    ['--temperature', ''],
    ['--temperature', 'Infinity'],
    ['--seed', '1.5'],
    ['--min-p', '1.5'],
    ['--repetition-penalty', '0'],
    ['--num-beams', '0'],
    ['--alpha', '-1'],
    ['--logprobs', '-1'],
    ['--dtype', 'int3'],
    ['--cache-dtype', 'int8'],
    ['--backend', 'abacus'],
  ])('refuses %s %s', async (option, value) => {
    const {code, stdout, stderr} = await run(generate(PROMPT, option, value));
    expect({code, stdout}).toEqual({code: 2, stdout: ''});
    expect(stderr).toContain(`'${value}' is invalid`);
  });

  test('--cache-dtype rounds keys and values', async () => {
    const other = new Gemma3CausalLM({
      backbone: lm.backbone,
      preprocessor: lm.preprocessor,
      cacheDtype: 'bfloat16',
    });
    const options = {maxLength: 16, stripPrompt: true, logprobs: 1} as const;
    const logprobsOf = (tokens: readonly {logprob: number}[]) => tokens.map(({logprob}) => logprob);
    const [rounded, plain] = [await other.generate(PROMPT, options), await lm.generate(PROMPT, options)];
    const {stdout} = await run(generate(PROMPT, ...LIMIT, '--logprobs', '1', '--json', '--cache-dtype', 'bfloat16'));
    const {tokens} = JSON.parse(stdout) as {tokens: {logprob: number}[]};
    // The command may run on another backend.
    const close = {rtol: 0, atol: 2e-5};
    expect(logprobsOf(tokens)).toBeAllClose(logprobsOf(rounded.tokens), close);
    expect(logprobsOf(tokens)).not.toBeAllClose(logprobsOf(plain.tokens), close);
    other.dispose();
  });

  // === Ends ===

  test('stops when interrupted, and ends the line', async () => {
    const before = tf.memory().numTensors;
    const controller = new AbortController();
    let seen = 0;
    const onText = () => {
      seen += 1;
      if (seen === 3) controller.abort();
    };
    const {code, stdout, stderr} = await run(generate(PROMPT, ...LIMIT), {signal: controller.signal, onText});
    expect({code, stderr}).toEqual({code: 130, stderr: ''});
    expect(stdout).toMatch(/^What is the capital.*\n$/);
    expect(stdout.length).toBeLessThan((await lm.generate(PROMPT, {maxLength: 16})).length);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('prints no partial object when interrupted', async () => {
    const {code, stdout, stderr} = await run(generate(PROMPT, '--json'), {signal: AbortSignal.abort()});
    expect({code, stdout, stderr}).toEqual({code: 130, stdout: '', stderr: ''});
  });

  test('shows a progress bar on a terminal and removes it', async () => {
    const {stdout, stderr} = await run(generate(PROMPT, ...LIMIT), {terminal: true});
    expect(stderr).toContain('Loading model');
    expect(stderr.endsWith('\u001b[2K')).toBe(true);
    expect(stdout).toBe(`${await lm.generate(PROMPT, {maxLength: 16})}\n`);
  });
});

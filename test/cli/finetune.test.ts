/** `gemma3 finetune`: training, resuming, and errors. */
import {existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import fs from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {Interrupts} from '../../cli/support/interrupts';
import {tinyPicture} from '../support/fixtures';
import {run, TINY} from './run';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'finetune-'))));
afterEach(() => rmSync(folder, {recursive: true}));

const at = (name: string) => join(folder, name);
const EXAMPLES = ['red', 'green', 'blue', 'pink', 'grey', 'teal'].map((color, i) => ({
  prompt: `Number ${i} is`,
  response: ` ${color}.`,
}));

function write(name: string, ...lines: (object | string)[]): string {
  writeFileSync(at(name), lines.map(line => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
  return at(name);
}

const finetune = (...argv: string[]) => ['finetune', '--preset', TINY, '--data', at('data.jsonl'), ...argv];
const SMALL = ['--batch-size', '2', '--epochs', '2', '--max-length', '40'];
interface Reported {
  losses: number[];
  epochs: {step: number; loss: number; validationLoss?: number}[];
  trainable: number;
  finished: boolean;
}
const report = (name: string) => JSON.parse(readFileSync(at(`${name}.report.json`), 'utf8')) as Reported;

test('trains, shows progress, and writes LoRA weights that generate reads', async () => {
  write('data.jsonl', ...EXAMPLES.map(example => ({...example, response: ' blue.'})));
  const before = tf.memory().numTensors;
  const output = at('colors.lora.h5');
  const argv = [
    ...SMALL,
    '--epochs',
    '12',
    '--learning-rate',
    '0.05',
    '--validation',
    at('data.jsonl'),
    '--output',
    output,
  ];
  const {code, stdout, stderr} = await run(finetune(...argv));
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /colors\.lora\.h5: loss \d\.\d+, validation loss \d\.\d+, 36 steps in \d+ s; report in .*colors\.loss\.svg\n$/,
  );
  expect(stderr).toMatch(
    /^(6 examples in ".*data.jsonl": JSON Lines, prompt and response\n){2}6 examples for training, 6 for validation; [\d,]+ parameters trained, [\d,]+ frozen\n/,
  );
  expect(stderr).toMatch(/step 36\/36 {2}loss \d\.\d+ {2}\d+ tokens\/s {2}done in/);
  expect(tf.memory().numTensors).toBe(before);
  expect(readdirSync(folder).sort()).toEqual(['colors.lora.h5', 'colors.loss.svg', 'colors.report.json', 'data.jsonl']);
  const {losses, epochs, finished} = report('colors');
  expect([losses.length, epochs.length, finished]).toEqual([36, 12, true]);
  expect(epochs.at(-1)!.validationLoss).toBeLessThan(epochs[0]!.validationLoss! / 2);
  expect(readFileSync(at('colors.loss.svg'), 'utf8')).toMatch(
    /^<svg [^]*<path d="M[\d.LM ]+" fill="none"[^]*<\/svg>\n$/,
  );
  const answer = await run([
    'generate',
    '--preset',
    TINY,
    '--lora',
    output,
    '--strip-prompt',
    'Number 2 is',
    '--max-length',
    '24',
  ]);
  expect(answer).toMatchObject({code: 0, stdout: ' blue.\n'});
});

test('resumes after Ctrl-C with the same losses, bit for bit', async () => {
  write('data.jsonl', ...EXAMPLES);
  const whole = [...SMALL, '--seed', '3', '--validation-split', '0.3', '--checkpoint-every', '1'];
  expect((await run(finetune(...whole, '--output', at('whole.lora.h5')))).code).toBe(0);

  const parts = finetune(...whole, '--output', at('parts.lora.h5'));
  const interrupts = new Interrupts();
  const watch = setInterval(() => existsSync(at('parts.checkpoint')) && interrupts.press(), 1);
  const first = await run(parts, {interrupts});
  clearInterval(watch);
  expect(first.code).toBe(130);
  expect(first.stderr).toMatch(
    /Interrupted after step \d\. ".*parts\.lora\.h5" holds the weights of that step\. Use --resume to continue/,
  );
  expect(report('parts').finished).toBe(false);
  const again = await run(parts);
  expect([again.code, again.stderr]).toEqual([
    1,
    expect.stringMatching(/Expected no interrupted run.*--resume to continue it/),
  ]);
  const other = await run([...parts, '--resume', '--rank', '2']);
  expect([other.code, other.stderr]).toEqual([1, expect.stringContaining('began with: --rank 4. Received: --rank 2.')]);

  const second = await run([...parts, '--resume', '--json']);
  expect(second.code).toBe(0);
  expect(report('parts').losses).toEqual(report('whole').losses);
  expect(report('parts').epochs).toEqual(report('whole').epochs);
  expect(readFileSync(at('parts.lora.h5'))).toEqual(readFileSync(at('whole.lora.h5')));
  expect(JSON.parse(second.stdout)).toMatchObject({finished: true, files: {lora: at('parts.lora.h5')}});
  expect(existsSync(at('parts.checkpoint'))).toBe(false);
});

test('stops at a loss that is not finite, and keeps the state before it', async () => {
  write('data.jsonl', ...EXAMPLES);
  const argv = [...SMALL, '--epochs', '20', '--learning-rate', '1e30', '--clip-norm', '1e30', '--warmup', '0'];
  const {code, stderr} = await run(finetune(...argv, '--schedule', 'constant', '--output', at('a.lora.h5')));
  expect(code).toBe(1);
  expect(stderr).toMatch(/Stopped \(ValueError\) after step \d+\./);
  expect(stderr).toMatch(/error: Expected a finite loss\. Received: (NaN|Infinity) in batch \d of epoch \d+, step \d+/);
  expect(readdirSync(folder)).toEqual(expect.arrayContaining(['a.checkpoint', 'a.lora.h5', 'a.report.json']));
});

test('learns from images', async () => {
  const picture = tinyPicture('blue_square');
  write('data.jsonl', {prompt: 'What?', response: ' A box.', image: picture}, {prompt: 'Hi', response: ' Ho.'});
  const argv = [
    '--batch-size',
    '2',
    '--epochs',
    '1',
    '--target',
    'query_proj',
    '--target',
    'value',
    '--output',
    at('a.lora.h5'),
  ];
  const {code, stderr} = await run(finetune(...argv));
  expect({code, stderr}).toMatchObject({code: 0});
  expect(report('a').losses).toHaveLength(1);
});

test('formats examples as chat turns, and creates the output folder', async () => {
  write('data.jsonl', EXAMPLES[0]!);
  const output = at('runs/chat/a.lora.h5');
  const {code, stdout} = await run(finetune('--chat', '--epochs', '1', '--output', output, '--max-length', '40'));
  expect(code).toBe(0);
  expect(stdout).toMatch(/, 1 step in /);
  expect(readdirSync(at('runs/chat')).sort()).toEqual(['a.lora.h5', 'a.loss.svg', 'a.report.json']);
});

describe('refuses', () => {
  test.each<[string, (object | string)[], string[], RegExp]>([
    ['an empty file', [], [], /Expected examples in ".*data\.jsonl", one per line: .* Received: an empty file/],
    ['empty lines', ['', ' '], [], /Received: only empty lines/],
    [
      'lines that are not JSON',
      [EXAMPLES[0]!, 'a b'],
      [],
      /in line 2 of ".*data\.jsonl"\. Received: a b, which is not JSON/,
    ],
    ['arrays of numbers', ['[1]'], [], /in line 1 of .* Received: 1\./],
    ['lines that are not objects', ['"a"'], [], /in line 1 of .* Received: "a"/],
    ['missing keys', [{prompt: 'a'}], [], /in line 1 .* Received: no "response"/],
    [
      'unknown keys',
      [{prompt: 'a', response: 'b', answer: 'c'}],
      [],
      /Received: the key "answer", which is not one of prompt, prompts, response/,
    ],
    ['numbers', [{prompt: 1, response: 'b'}], [], /Received: a "prompt" that is not a string/],
    ['empty answers', [{prompt: 'a', response: ''}], [], /an empty "response"/],
    ['two kinds of images', [{prompt: 'a', response: 'b', image: 'c', images: ['d']}], [], /both "image" and "images"/],
    ['missing images', [{prompt: 'a', response: 'b', image: 'none.png'}], [], /none\.png". Received: no such file/],
    [
      'long examples',
      [EXAMPLES[0]!, {prompt: 'a '.repeat(60), response: 'b'}],
      ['--max-length', '40'],
      /at most 40 tokens in .* Received: 1 longer ones, line 2 first with \d+ tokens; .*--truncate to cut them/,
    ],
    ['no such layers', [EXAMPLES[0]!], ['--target', 'quarry'], /Received: "quarry"/],
  ])('%s', async (_, lines, argv, message) => {
    write('data.jsonl', ...lines);
    const {code, stderr} = await run(finetune(...argv, '--output', at('a.lora.h5')));
    expect({code, stderr}).toEqual({code: 1, stderr: expect.stringMatching(message) as string});
    expect(readdirSync(folder)).toEqual(['data.jsonl']);
  });

  test.each<[string[], RegExp]>([
    [['--output', 'a.h5'], /ends in .lora.h5. Received: "a.h5"/],
    [['--output', 'a.lora.h5', '--validation', 'x', '--validation-split', '0.1'], /no effect with '--validation'/],
    [['--output', 'a.lora.h5', '--accumulate', '1'], /at least 2. Received: 1/],
    [[], /required option '--output <file>' not specified/],
  ])('%j', async (argv, message) => {
    const {code, stderr} = await run(finetune(...argv));
    expect({code, stderr}).toEqual({code: 2, stderr: expect.stringMatching(message) as string});
  });

  test('an output that cannot be written, before anything is computed', async () => {
    write('data.jsonl', EXAMPLES[0]!);
    const inFile = await run(finetune('--output', join(at('data.jsonl'), 'a.lora.h5')));
    expect([inFile.code, inFile.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: Expected a writable file\. Received: ".*a\.lora\.h5": /),
    ]);
    mkdirSync(at('b.lora.h5'));
    const inPlace = await run(finetune('--output', at('b.lora.h5'), '--force'));
    expect([inPlace.code, inPlace.stderr]).toEqual([
      1,
      expect.stringMatching(/^error: .*b\.lora\.h5", which is a folder/),
    ]);
    expect(readdirSync(folder).sort()).toEqual(['b.lora.h5', 'data.jsonl']);
  });

  test('existing output, and --resume without a run', async () => {
    write('data.jsonl', EXAMPLES[0]!);
    writeFileSync(at('a.lora.h5'), '');
    const there = await run(finetune('--output', at('a.lora.h5')));
    expect([there.code, there.stderr]).toEqual([1, expect.stringMatching(/file that does not exist.*a\.lora\.h5/)]);
    const none = await run(finetune('--output', at('b.lora.h5'), '--resume'));
    expect([none.code, none.stderr]).toEqual([1, expect.stringMatching(/a run to resume.*Received: none/)]);
  });
});

test('a disk that fills up: the weights are saved if they fit, and the last checkpoint stays', async () => {
  write('data.jsonl', ...EXAMPLES);
  const argv = finetune(...SMALL, '--output', at('full.lora.h5'), '--checkpoint-every', '1');
  const original = fs.open;
  let checkpoints = 0;
  const spy = jest.spyOn(fs, 'open').mockImplementation(async (path, flags, mode) => {
    const handle = await original(path, flags, mode);
    if (String(path).includes('.checkpoint') && ++checkpoints > 2) {
      handle.write = (() => Promise.reject(Object.assign(new Error('ENOSPC: full'), {code: 'ENOSPC'}))) as never;
    }
    return handle;
  });
  const {code, stderr} = await run(argv);
  spy.mockRestore();
  expect(code).toBe(1);
  expect(stderr).toMatch(
    /Stopped \(ValueError\) after step 3\. ".*full\.lora\.h5" holds the weights.* Use --resume to/,
  );
  expect(stderr).toMatch(/error: Expected a file that can be written\. Received: ".*full\.checkpoint": ENOSPC: full/);
  const report = readFileSync(at('full.report.json'), 'utf8');
  for (const damaged of [report.slice(0, 50), '[]', '{}', 'null']) {
    writeFileSync(at('full.report.json'), damaged);
    expect((await run([...argv, '--resume'])).stderr).toMatch(/Expected the report of an interrupted run/);
  }
  writeFileSync(at('full.report.json'), report);
  write('data.jsonl', ...EXAMPLES.slice(1), {prompt: 'x', response: 'y'});
  expect((await run([...argv, '--resume'])).stderr).toMatch(/model that the run began with: {"data":/);
  write('data.jsonl', ...EXAMPLES);
  expect((await run([...argv, '--resume'])).code).toBe(0);
});

test('data in another encoding is refused', async () => {
  writeFileSync(at('data.jsonl'), Buffer.from('{"prompt": "Caf\xe9", "response": "b"}', 'latin1'));
  expect((await run(finetune('--output', at('a.lora.h5')))).stderr).toMatch(
    /^error: Expected text in UTF-8 in ".*data\.jsonl"\. Received: bytes in another encoding\. Convert it/,
  );
});

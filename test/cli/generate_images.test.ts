/** `gemma3 generate --image`. */
import {cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {crc32} from '../../src/images/png';
import {TINY_PRESET, tinyPicture} from '../support/fixtures';
import {run, TINY} from './run';

const SQUARE = ['--image', tinyPicture('blue_square')];

test.each<[string, string[], RegExp]>([
  [
    'before the prompt',
    [...SQUARE, 'What is in the picture?'],
    /^\n\n<start_of_image>\n\n What is in the picture\? A blue square\.\n$/,
  ],
  [
    'where the prompt has a mark',
    [...SQUARE, 'What is in the picture? <start_of_image>'],
    /picture\? \n\n<start_of_image>\n\nA blue square\.\n$/,
  ],
  ['only the new text', [...SQUARE, '--strip-prompt', 'What is in the picture?'], /^ ?A blue square\.\n$/],
  ['a sample question', SQUARE, /What is in the picture\? A blue square\.\n$/],
  [
    'two images, in order',
    ['--image', tinyPicture('green_triangle'), '--image', tinyPicture('yellow_ring')],
    /What is in these images\? A green triangle and a yellow ring\.\n$/,
  ],
])('answers: %s', async (_, argv, expected) => {
  const before = tf.memory().numTensors;
  const {code, stdout, stderr} = await run(['generate', ...argv]);
  expect({code, stderr}).toEqual({code: 0, stderr: ''});
  expect(stdout).toMatch(expected);
  expect(tf.memory().numTensors).toBe(before);
});

test('counts the tokens of images', async () => {
  const {stdout} = await run(['generate', '--preset', TINY, '--json', ...SQUARE, 'What is in the picture?']);
  const result = JSON.parse(stdout) as {text: string; promptTokens: number; newTokens: number};
  expect(result.text).toContain('A blue square.');
  // 16 tokens for the image, and the tokens around it.
  expect(result.promptTokens).toBeGreaterThan(20);
  expect(result.newTokens).toBeGreaterThan(2);
});

test('turns images as their metadata says, unless told not to', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gemma3-images-'));
  const file = join(folder, 'turned.png');
  try {
    // The chunk eXIf after the header, with orientation 6.
    const tiff = 'II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0';
    const exif = Buffer.from(`0000eXIf${tiff}`, 'latin1');
    exif.writeUInt32BE(exif.length - 8);
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(exif.subarray(4)));
    const picture = readFileSync(tinyPicture('red_circle'));
    writeFileSync(file, Buffer.concat([picture.subarray(0, 33), exif, sum, picture.subarray(33)]));
    const logprobs = async (...argv: string[]) => {
      const {stdout, stderr} = await run(['generate', '--json', '--logprobs', '1', 'What is in the picture?', ...argv]);
      expect(stderr).toBe('');
      return (JSON.parse(stdout) as {tokens: unknown}).tokens;
    };
    const stored = await logprobs('--image', tinyPicture('red_circle'));
    expect(await logprobs('--image', file, '--image-orientation', 'none')).toEqual(stored);
    expect(await logprobs('--image', file)).not.toEqual(stored);
    const alone = await run(['generate', '--image-orientation', 'none', 'a']);
    expect([alone.code, alone.stderr]).toEqual([2, expect.stringContaining("no effect without '--image'")]);
  } finally {
    rmSync(folder, {recursive: true});
  }
});

describe('refuses', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'gemma3-images-'));
    writeFileSync(join(folder, 'a.gif'), 'GIF89a');
    // A folder with only a tokenizer is a text-only preset.
    cpSync(join(TINY_PRESET, 'assets'), join(folder, 'assets'), {recursive: true});
  });
  afterAll(() => rmSync(folder, {recursive: true}));

  test.each<[string, () => string[], RegExp]>([
    ['a missing file', () => ['--image', 'nothing.png', 'a'], /image file at "nothing.png". Received: no such file/],
    [
      'a format that another package decodes',
      () => ['--image', join(folder, 'a.gif'), 'a'],
      /Expected the package "sharp", which decodes GIF files in Node/,
    ],
    ['too many', () => [...SQUARE, ...SQUARE, ...SQUARE, 'a'], /at most 2 images in a prompt. Received: 3/],
    [
      'a prompt with another count',
      () => [...SQUARE, '<start_of_image><start_of_image>'],
      /1 images, but <start_of_image> 2 times/,
    ],
    ['too small a length', () => [...SQUARE, 'a', '--max-length', '9'], /room for the 16 tokens of the images/],
    [
      'a text-only preset',
      () => ['--preset', folder, ...SQUARE, 'a'],
      /a preset that accepts images. .*Leave out --image/,
    ],
  ])('%s', async (_, argv, message) => {
    const before = tf.memory().numTensors;
    const {code, stdout, stderr} = await run(['generate', ...argv()]);
    expect({code, stdout}).toEqual({code: 1, stdout: ''});
    expect(stderr).toMatch(/^error: [^\n]*\n$/);
    expect(stderr).toMatch(message);
    expect(tf.memory().numTensors).toBe(before);
  });
});

test('explains in its help where images are placed', async () => {
  const {stdout} = await run(['generate', '--help']);
  expect(stdout).toMatch(/--image <file>/);
  expect(stdout).toMatch(/marks the position of one --image/);
});

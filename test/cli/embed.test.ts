/** `gemma3 embed`, compared with the library. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3TextEmbedder} from 'tfjs-gemma3';
import {fixture} from '../support/fixtures';
import {run, TINY} from './run';

const FIXTURE = fixture('embedder/embedding_model');
const TEXTS = ['Mars is called the Red Planet.', 'Venus', 'two words'];

async function vectorsOf(argv: readonly string[], stdin?: string): Promise<number[][]> {
  const {code, stdout, stderr} = await run(['embed', ...argv], stdin === undefined ? {} : {stdin});
  expect({code, stderr}).toEqual({code: 0, stderr: ''});
  return stdout
    .trimEnd()
    .split('\n')
    .map(line => JSON.parse(line) as number[]);
}

test('vectors that are not numbers are refused: JSON has no NaN', async () => {
  const spy = jest.spyOn(Gemma3TextEmbedder.prototype, 'encodeText').mockResolvedValue(tf.tensor2d([[1, NaN]]));
  const {code, stdout, stderr} = await run(['embed', 'a']);
  spy.mockRestore();
  expect([code, stdout]).toEqual([1, '']);
  expect(stderr).toMatch(/^error: Expected embeddings of finite numbers\. Received: NaN or infinity for text 1\./);
});

/** The vectors that the library computes. */
async function expectedVectors(preset: string, texts: readonly string[], options: object = {}): Promise<number[][]> {
  const embedder = await Gemma3TextEmbedder.fromPreset(preset, options);
  const y = await embedder.encodeText(texts);
  const vectors = await y.array();
  y.dispose();
  embedder.dispose();
  return vectors;
}

const length = (vector: readonly number[]) => Math.hypot(...vector);

describe('gemma3 embed', () => {
  test('prints one vector per line, by default of the packaged preset', async () => {
    const before = tf.memory().numTensors;
    const vectors = await vectorsOf(TEXTS);
    const expected = await expectedVectors(TINY, TEXTS);
    expect(vectors).toHaveLength(3);
    expect(vectors.flat()).toBeAllClose(expected.flat(), {atol: 1e-6});
    expect(vectors.map(length)).toBeAllClose([1, 1, 1], {atol: 5e-6});
    expect(tf.memory().numTensors).toBe(before);
  });

  test('applies --pooling and --no-normalize', async () => {
    const vectors = await vectorsOf([...TEXTS, '--pooling', 'mean', '--no-normalize', '--batch-size', '1']);
    const expected = await expectedVectors(TINY, TEXTS, {poolingMode: 'mean', normalize: false});
    expect(vectors.flat()).toBeAllClose(expected.flat(), {atol: 1e-4});
    expect(Math.abs(length(vectors[0]!) - 1)).toBeGreaterThan(0.1);
  });

  test('reads texts from the lines of standard input', async () => {
    const vectors = await vectorsOf(['--preset', FIXTURE, '-'], `${TEXTS.join('\r\n\n')}\n`);
    const expected = await expectedVectors(FIXTURE, TEXTS);
    expect(vectors.flat()).toBeAllClose(expected.flat(), {atol: 1e-6});
    expect(await run(['embed', '-'], {stdin: '\n'})).toMatchObject({code: 2, stdout: ''});
  });

  test('prints one object', async () => {
    const {code, stdout} = await run([
      'embed',
      'a',
      'b',
      '--preset',
      FIXTURE,
      '--json',
      '--similarity',
      '--dtype',
      'int8',
    ]);
    expect(code).toBe(0);
    const {embeddings, similarity, ...rest} = JSON.parse(stdout) as {embeddings: number[][]; similarity: number[][]};
    expect(rest).toEqual({dimension: 6, seconds: expect.any(Number), backend: 'simd'});
    expect(embeddings.map(vector => vector.length)).toEqual([6, 6]);
    const product = embeddings[0]!.reduce((sum, value, i) => sum + value * embeddings[1]![i]!, 0);
    expect(similarity[0]![1]).toBeCloseTo(product, 5);
    expect(similarity[1]![1]).toBeCloseTo(1, 5);
  });

  test('prints a matrix of similarities', async () => {
    const {stdout} = await run(['embed', 'Mars', 'Mars', '--preset', FIXTURE, '--similarity']);
    expect(stdout).toBe('1.0000  1.0000\n1.0000  1.0000\n');
  });

  test('reports options that do not fit the preset', async () => {
    const {code, stderr} = await run(['embed', 'a', '--preset', FIXTURE, '--no-normalize']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: Gemma3TextEmbedder expected `normalize` to be true: .*\n$/);
  });

  test('stops when interrupted', async () => {
    const controller = new AbortController();
    controller.abort(new Error('Interrupted.'));
    expect(await run(['embed', 'a'], {signal: controller.signal})).toMatchObject({code: 130, stdout: ''});
  });
});

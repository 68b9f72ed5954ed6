/** `.keras` archives that Keras wrote (make_keras_file_fixtures.py). */
import {rmSync} from 'node:fs';
import {join} from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import {
  convertPreset,
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3TextEmbedder,
  Gemma3Tokenizer,
  Task,
  useBackend,
  ValueError,
} from '../../../src';
import {kerasPaths} from '../../../src/checkpoints/model_paths';
import {MemoryPreset} from '../../../src/public/files';
import {fixtureBytes} from '../../support/fixtures';
import {floatsOf, kerasExpected, kerasFile, quantizedPreset, temporaryFolder} from '../../support/keras_files';
import {take} from '../../support/numbers';
import {run} from '../../cli/run';
import {serveFiles} from '../../support/file_server';

const {inputs, cases} = kerasExpected();
const NAMES = ['backbone', 'causal_lm', 'embedder', 'int8_vision'];
const folder = temporaryFolder(NAMES.map(name => [`${name}.keras`, kerasFile(`${name}.keras`)] as const));
const pathOf = (name: string) => join(folder, `${name}.keras`);
afterAll(() => rmSync(folder, {recursive: true}));

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

/** Names of weights that differ from Keras' values. */
async function different(backbone: Gemma3Backbone, name: string): Promise<string[]> {
  const wrong: string[] = [];
  for (const [path, weight] of kerasPaths(backbone)) {
    const text = cases[name]!.values[path];
    if (text === undefined) continue;
    const wanted = floatsOf(text);
    const values = await take((weight.read() as tf.Tensor).clone());
    if (values.some((value, i) => value !== wanted[i])) wrong.push(path);
  }
  return wrong;
}

test.each(NAMES)('%s.keras has the weights of Keras', async name => {
  const backbone = await Gemma3Backbone.fromPreset(pathOf(name), {dtype: 'float32'});
  expect(await different(backbone, name)).toEqual([]);
  backbone.dispose();
});

test('a language model generates the text of Keras, with the tokenizer in the archive', async () => {
  const lm = await Gemma3CausalLM.fromPreset(pathOf('causal_lm'));
  const [prompt, text] = cases.causal_lm!.generated!;
  expect(await lm.generate(prompt, {maxLength: 12})).toBe(text);
  expect(lm.preprocessor!.sequenceLength).toBe(16);
  lm.dispose();
  const task = await Task.fromPreset(pathOf('causal_lm'));
  expect(task).toBeInstanceOf(Gemma3CausalLM);
  task.dispose();
  const tokenizer = await Gemma3Tokenizer.fromPreset(pathOf('causal_lm'));
  expect(Buffer.from(tokenizer.proto).equals(Buffer.from(fixtureBytes('tokenizer/vocabulary.spm')))).toBe(true);
});

test('an embedder has its pooling and its tokenizer', async () => {
  const embedder = await Gemma3TextEmbedder.fromPreset(pathOf('embedder'));
  expect(embedder.poolingMode).toBe('mean');
  const [text, expected] = cases.embedder!.encoded!;
  const actual = await take(await embedder.encodeText([text]));
  actual.forEach((value, i) => expect(value).toBeCloseTo(expected[i]!, 4));
  embedder.dispose();
});

test('a quantized model with vision', async () => {
  const lm = await Gemma3CausalLM.fromPreset(pathOf('int8_vision'), {preprocessor: null});
  const actual = await take(lm.backbone.predict(inputs.vision as never) as tf.Tensor);
  const expected = cases.int8_vision!.output!;
  const largest = Math.max(...expected.map(Math.abs));
  actual.forEach((value, i) => expect(Math.abs(value - expected[i]!) / largest).toBeLessThan(1e-4));
  lm.dispose();
});

test('as bytes, in a folder of its own, and from a server by ranges', async () => {
  const bytes = kerasFile('backbone.keras');
  const alone = await Gemma3Backbone.fromPreset(new MemoryPreset([['model.keras', bytes]]));
  const blob = await Gemma3Backbone.fromPreset(new File([bytes as BlobPart], 'backbone.keras'));
  const server = await serveFiles({'models/backbone.keras': bytes});
  try {
    const remote = await Gemma3Backbone.fromPreset(`${server.address}/models/backbone.keras`);
    for (const backbone of [alone, blob, remote]) {
      expect(backbone.config.dtype).toBe('bfloat16');
      backbone.dispose();
    }
  } finally {
    await server.close();
  }
});

test('gemma3 inspect and convert', async () => {
  const {code, stdout, stderr} = await run(['inspect', pathOf('causal_lm')]);
  expect({code, stderr}).toEqual({code: 0, stderr: ''});
  expect(stdout).toMatch(/Format +Keras archive, single, float32/);
  const converted = new MemoryPreset();
  await convertPreset(pathOf('causal_lm'), converted, {to: 'keras'});
  expect([...converted.files.keys()].sort()).toEqual([
    'assets/tokenizer/vocabulary.spm',
    'config.json',
    'metadata.json',
    'model.weights.h5',
    'preprocessor.json',
    'task.json',
    'tokenizer.json',
  ]);
  const lm = await Gemma3CausalLM.fromPreset(converted);
  const [prompt, text] = cases.causal_lm!.generated!;
  expect(await lm.generate(prompt, {maxLength: 12})).toBe(text);
  lm.dispose();
  const backbone = new MemoryPreset();
  await convertPreset(pathOf('backbone'), backbone, {to: 'tfjs'});
  expect(backbone.files.has('model.json')).toBe(true);
});

test('weights from a file of their own, in place of those of a preset', async () => {
  const weights = kerasFile('int4_blocks.weights.h5');
  const other = await quantizedPreset('int4_blocks');
  // The preset's own weights are not even opened.
  other.files.set('model.weights.h5', Uint8Array.of(1, 2, 3));
  const backbone = await Gemma3Backbone.fromPreset(other, {weights, dtype: 'float32'});
  expect(await different(backbone, 'int4_blocks')).toEqual([]);
  const lm = await Gemma3CausalLM.fromPreset(other, {weights, preprocessor: null});
  expect(await different(lm.backbone, 'int4_blocks')).toEqual([]);
  for (const model of [lm, backbone]) model.dispose();
  const refused = async (options: object, message: RegExp) => {
    await expect(Gemma3Backbone.fromPreset(other, options)).rejects.toThrow(message);
  };
  await refused({weights, loadWeights: false}, /either `weights` or `loadWeights: false`/);
  await refused({weights: 'a.keras'}, /Expected weights: a \.weights\.h5 file.*pass it as the preset/);
  await refused({weights: 5}, /Expected weights: .* Received: 5/);
  await refused({weights: kerasFile('gptq.weights.h5')}, /do not fit its config\.json/);
});

test('an archive without a model, or without a tokenizer', async () => {
  await expect(
    Gemma3Backbone.fromPreset(
      new MemoryPreset([['x.keras', Uint8Array.from([0x50, 0x4b, 5, 6, ...Array<number>(18).fill(0)])]]),
    ),
  ).rejects.toThrow(ValueError);
  await expect(Gemma3CausalLM.fromPreset(pathOf('backbone'))).rejects.toThrow(/Expected one "vocabulary\.spm"/);
});

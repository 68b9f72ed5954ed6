/** Hugging Face folders as Keras presets and tfjs folders: the same values, configuration and ids. */
import {mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {convertPreset} from '../../converters/convert_preset';
import {type JsonObject} from '../../src/base/json';
import {Gemma3CausalLM} from '../../src/models/gemma3/gemma3_causal_lm';
import {Gemma3TextEmbedder} from '../../src/models/gemma3/gemma3_text_embedder';
import {fixture} from '../support/fixtures';

const folders: string[] = [];
afterAll(() => folders.forEach(folder => rmSync(folder, {recursive: true})));

function target(): string {
  const folder = mkdtempSync(join(tmpdir(), 'converted-'));
  folders.push(folder);
  return folder;
}

const readJson = (folder: string, file: string) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as JsonObject;

/** All weights, by name. */
async function values(model: {readonly weights: tf.LayerVariable[]}): Promise<Record<string, number[]>> {
  const all: Record<string, number[]> = {};
  for (const weight of model.weights) all[weight.originalName] = Array.from(await weight.read().data());
  return all;
}

let tensors = 0;
beforeEach(() => (tensors = tf.memory().numTensors));
afterEach(() => expect(tf.memory().numTensors).toBe(tensors));

test.each([
  ['text', 'keras'],
  ['shards', 'keras'],
  ['vision', 'keras'],
  ['text_4.51', 'tfjs'],
] as const)('%s to %s', async (name, to) => {
  const folder = target();
  const progress: number[] = [];
  const {files, dtype} = await convertPreset(fixture(`huggingface/${name}`), folder, {
    to,
    onProgress: ({saved, total}) => progress.push(saved / total),
  });
  expect(progress.at(-1)).toBe(1);
  expect(readdirSync(folder).filter(file => file !== 'assets')).toEqual(files.filter(file => !file.includes('/')));
  const stored = {text: 'bfloat16', shards: 'float32', vision: 'float16', 'text_4.51': 'float16'}[name];
  expect(dtype).toBe(stored);
  expect(readJson(folder, 'config.json')).toMatchObject({config: {dtype: {config: {name: stored}}}});
  // float32 holds all of them exactly.
  const original = await Gemma3CausalLM.fromPreset(fixture(`huggingface/${name}`), {dtype: 'float32'});
  const converted = await Gemma3CausalLM.fromPreset(folder, {dtype: 'float32'});
  expect(converted.backbone.config).toEqual(original.backbone.config);
  expect(await values(converted)).toEqual(await values(original));
  const texts = ['the river <end_of_turn>', '  12,345 \n\n'];
  expect(converted.preprocessor!.tokenizer.tokenize(texts)).toEqual(original.preprocessor!.tokenizer.tokenize(texts));
  expect(converted.preprocessor!.getConfig()).toEqual(original.preprocessor!.getConfig());
  original.dispose();
  converted.dispose();
});

test('an embedder to keras', async () => {
  const folder = target();
  await convertPreset(fixture('huggingface/embedder'), folder, {to: 'keras'});
  expect(readJson(folder, 'task.json')).toMatchObject({
    class_name: 'Gemma3TextEmbedder',
    config: {pooling_mode: 'mean', normalize: true},
    prompts: {query: 'task: search result | query: ', document: 'title: none | text: '},
  });
  const original = await Gemma3TextEmbedder.fromPreset(fixture('huggingface/embedder'));
  const converted = await Gemma3TextEmbedder.fromPreset(folder);
  expect(await values(converted)).toEqual(await values(original));
  const encode = (embedder: Gemma3TextEmbedder) => embedder.encodeText('the river', {promptName: 'query'});
  const [a, b] = [await encode(original), await encode(converted)];
  expect(b).toBeAllClose(a, 0);
  tf.dispose([a, b]);
  original.dispose();
  converted.dispose();
});

test('an image converter keeps its settings', async () => {
  const folder = target();
  await convertPreset(fixture('huggingface/vision'), folder, {to: 'keras'});
  expect(readJson(folder, 'image_converter.json')).toMatchObject({
    class_name: 'Gemma3ImageConverter',
    config: {image_size: [16, 16], antialias: true, crop_to_aspect_ratio: false, interpolation: 'bilinear'},
  });
});

/** Keras presets as Hugging Face folders and back: the same tensors, configuration, tokenizer and tasks. */
import {createHash} from 'node:crypto';
import {cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {writeFile} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3Backbone, Gemma3CausalLM, Gemma3TextEmbedder} from '../../src';
import {type JsonObject} from '../../src/base/json';
import {MemoryPreset, openCheckpoint} from '../../src/public/files';
import {listPresetVariables} from '../../src/public/weights';
import {fixture, fixtureNames, TINY_PRESET} from '../support/fixtures';

const folders: string[] = [];
afterAll(() => folders.forEach(folder => rmSync(folder, {recursive: true})));

function target(): string {
  const folder = mkdtempSync(join(tmpdir(), 'to-hf-'));
  folders.push(folder);
  return folder;
}

const readJson = (folder: string, file: string) => JSON.parse(readFileSync(join(folder, file), 'utf8')) as JsonObject;

/** The values of all weights, by path. */
async function valuesOf(preset: string): Promise<Map<string, Float32Array>> {
  const backbone = await Gemma3Backbone.fromPreset(preset, {dtype: 'float32'});
  const all = new Map<string, Float32Array>();
  for (const weight of backbone.weights) {
    all.set(weight.originalName, Float32Array.from(await weight.read().data()));
  }
  backbone.dispose();
  return all;
}

/** Hashes of the values of all weights, by path. */
async function bits(preset: string): Promise<Record<string, string>> {
  const hash = (values: Float32Array) => createHash('sha256').update(values).digest('hex');
  return Object.fromEntries([...(await valuesOf(preset))].map(([name, values]) => [name, hash(values)]));
}

async function configOf(preset: string): Promise<JsonObject> {
  const checkpoint = await openCheckpoint(preset);
  const {config} = (await checkpoint.config('backbone'))!;
  await checkpoint.close();
  return config;
}

let tensors = 0;
let warn: jest.SpyInstance;
beforeEach(() => {
  tensors = tf.memory().numTensors;
  warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
});
afterEach(() => {
  warn.mockRestore();
  expect(tf.memory().numTensors).toBe(tensors);
});

const NO_POST_NORMS = /use_post_ffw_norm=false, expected true; use_post_attention_norm=false, expected true/;
const SOFT_CAP = /attention_logit_soft_cap=2, expected null/;

/** Models that transformers does not have, and what the error says. */
const REFUSED: Record<string, RegExp> = {
  no_query_key_norm: /use_query_key_norm=false, expected true/,
  ...{defaults: NO_POST_NORMS, grouped_heads: NO_POST_NORMS, many_heads: NO_POST_NORMS},
  ...{query_scale_by_hidden: NO_POST_NORMS, embedding_window_of_one: NO_POST_NORMS, soft_caps: NO_POST_NORMS},
  ...{embedding_everything: SOFT_CAP, everything: SOFT_CAP},
};

const BOTH_SIDES: {[key: string]: [unknown, unknown]} = {sliding_window_size: [4, 5]};

/** Settings that come back as others, because transformers has them in another form, each with the warning. */
const CHANGED: Record<string, {[key: string]: [unknown, unknown]}> = {
  ...{bidirectional: BOTH_SIDES, embedding: BOTH_SIDES, embedding_bfloat16: BOTH_SIDES},
  mixed_bfloat16: {dtype: [policy('mixed_bfloat16'), policy('float32')]},
};
const WARNED: Record<string, RegExp> = {
  ...{bidirectional: /both sides of a bidirectional window of 4/, embedding: /both sides/, embedding_bfloat16: /both/},
  rope_factors: /local_rope_scaling_factor=2 from version 5 on/,
};

function policy(name: string): unknown {
  return expect.objectContaining({config: {name}});
}

test.each(fixtureNames('backbone'))('%s there and back', async name => {
  const [folder, back] = [target(), target()];
  const source = fixture(`backbone/${name}`);
  const refused = REFUSED[name];
  if (refused) {
    await expect(convertPreset(source, folder, {to: 'huggingface'})).rejects.toThrow(refused);
    expect(readdirSync(folder)).toEqual([]);
    return;
  }
  await convertPreset(source, folder, {to: 'huggingface'});
  expect(warn.mock.calls.flat()).toEqual(WARNED[name] ? [expect.stringMatching(WARNED[name])] : []);
  await convertPreset(folder, back, {to: 'keras'});
  expect(await bits(back)).toEqual(await bits(source));
  const [before, after] = [await configOf(source), await configOf(back)];
  for (const key of new Set([...Object.keys(before), ...Object.keys(after)])) {
    const [old, now] = CHANGED[name]?.[key] ?? [before[key], before[key]];
    expect([key, before[key], after[key]]).toEqual([key, old, now]);
  }
});

test.each([
  ['text', fixture('gguf/text')],
  ['text and images', TINY_PRESET],
  ['embeddings', fixture('embedder/embedding_model')],
])('Keras, Hugging Face, GGUF, Keras: %s', async (_, preset) => {
  const [folder, gguf, back] = [target(), target(), target()];
  await convertPreset(preset, folder, {to: 'huggingface'});
  await convertPreset(folder, gguf, {to: 'gguf'});
  await convertPreset(gguf, back, {to: 'keras'});
  const [before, after] = [await valuesOf(preset), await valuesOf(back)];
  expect([...after.keys()]).toEqual([...before.keys()]);
  for (const [name, values] of before) {
    // GGUF stores 1 + scale, which rounds the scales of float32 models.
    const most = name.endsWith('norm/scale') || name.startsWith('final_normalization') ? 2 ** -23 : 0;
    const difference = values.reduce((max, value, i) => Math.max(max, Math.abs(value - after.get(name)![i]!)), 0);
    expect([name, difference <= most]).toEqual([name, true]);
  }
});

test('a language model with vision there and back', async () => {
  const [folder, back] = [target(), target()];
  const result = await convertPreset(TINY_PRESET, folder, {to: 'huggingface'});
  expect(result.files).toEqual([
    ...['chat_template.jinja', 'config.json', 'generation_config.json', 'model.safetensors'],
    ...['preprocessor_config.json', 'processor_config.json', 'special_tokens_map.json', 'tokenizer.json'],
    ...['tokenizer.model', 'tokenizer_config.json'],
  ]);
  expect(readdirSync(folder).sort()).toEqual(result.files);
  await convertPreset(folder, back, {to: 'keras'});
  expect(await bits(back)).toEqual(await bits(TINY_PRESET));
  const [before, after] = [await configOf(TINY_PRESET), await configOf(back)];
  expect(after).toEqual({...before, name: 'gemma3_backbone', vision_encoder: expect.anything()});
  const [original, returned] = [await Gemma3CausalLM.fromPreset(TINY_PRESET), await Gemma3CausalLM.fromPreset(back)];
  const {tokenizer} = returned.preprocessor!;
  expect(tokenizer.proto).toEqual(original.preprocessor!.tokenizer.proto);
  expect(tokenizer.foreignChatTemplate).toBeNull();
  expect(returned.preprocessor!.imageConverter).toMatchObject({imageSize: [64, 64], interpolation: 'bilinear'});
  expect(returned.stopTokenIds).toBeNull();
  const prompt = 'What is the capital of France?';
  expect(await returned.generate(prompt, {maxLength: 30})).toEqual(await original.generate(prompt, {maxLength: 30}));
  original.dispose();
  returned.dispose();
});

test('an embedder there and back', async () => {
  const [folder, back] = [target(), target()];
  const source = fixture('embedder/embedding_model');
  await convertPreset(source, folder, {to: 'huggingface'});
  expect(readJson(folder, 'modules.json')).toMatchObject([
    {path: '', type: 'sentence_transformers.models.Transformer'},
    {path: '1_Pooling', type: 'sentence_transformers.models.Pooling'},
    {path: '2_Dense', type: 'sentence_transformers.models.Dense'},
    {path: '3_Dense', type: 'sentence_transformers.models.Dense'},
    {path: '4_Normalize', type: 'sentence_transformers.models.Normalize'},
  ]);
  expect(readdirSync(folder)).not.toContain('chat_template.jinja');
  const names = (await listPresetVariables(folder)).map(({path}) => path);
  expect(names).toEqual(expect.arrayContaining(['embed_tokens.weight', 'norm.weight', '2_Dense/linear.weight']));
  await convertPreset(folder, back, {to: 'keras'});
  expect(await bits(back)).toEqual(await bits(source));
  const [original, returned] = [await Gemma3TextEmbedder.fromPreset(source), await Gemma3TextEmbedder.fromPreset(back)];
  expect(returned.backbone.config).toEqual(original.backbone.config);
  expect(returned.preprocessor!.sequenceLength).toBe(original.preprocessor!.sequenceLength);
  original.dispose();
  returned.dispose();
});

test.each(['mean', 'last', 'mean_unnormalized', 'last_unnormalized'])('an embedder with pooling %s', async name => {
  const folder = target();
  const original = await Gemma3TextEmbedder.fromPreset(fixture(`embedder/${name}`));
  Object.assign(original, {prompts: {query: 'task: search | query: '}, defaultPromptName: 'query'});
  await original.exportToTransformers(folder);
  const returned = await Gemma3TextEmbedder.fromPreset(folder);
  const {poolingMode, normalize, prompts, defaultPromptName} = original;
  expect(returned).toMatchObject({poolingMode, normalize, prompts, defaultPromptName});
  original.dispose();
  returned.dispose();
});

test.each(['float32', 'float16', 'bfloat16'] as const)('all weights in %s, in shards', async dtype => {
  const [folder, expected] = [target(), target()];
  const {bytes, files} = await convertPreset(TINY_PRESET, folder, {to: 'huggingface', dtype, shardSize: 300_000});
  expect(bytes).toBe(1275712 * (dtype === 'float32' ? 4 : 2));
  const variables = await listPresetVariables(folder);
  expect(new Set(variables.map(variable => variable.dtype))).toEqual(new Set([dtype]));
  const shards = files.filter(file => file.endsWith('.safetensors'));
  expect(new Set(variables.map(({file}) => file))).toEqual(new Set(shards));
  // Only a single tensor may be larger.
  for (const shard of shards) {
    const inside = variables.filter(({file}) => file === shard);
    expect(inside.length === 1 || inside.reduce((sum, {bytes}) => sum + bytes, 0) <= 300_000).toBe(true);
  }
  const {metadata, weight_map: map} = readJson(folder, 'model.safetensors.index.json');
  expect(metadata).toEqual({total_size: bytes});
  expect(map).toEqual(Object.fromEntries(variables.map(({path, file}) => [path, file])));
  const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
  await lm.exportToTransformers(expected, {dtype, shardSize: 300_000});
  lm.dispose();
  expect(readdirSync(expected)).toEqual(readdirSync(folder));
  // The vocabulary and the weights of a model in memory are the same files.
  for (const file of readdirSync(folder)) {
    expect([file, readFileSync(join(expected, file)).equals(readFileSync(join(folder, file)))]).toEqual([file, true]);
  }
});

test('another dtype of a folder keeps its files', async () => {
  const [source, folder] = [target(), target()];
  cpSync(fixture('huggingface/vision'), source, {recursive: true});
  const template = '{% for message in messages %}[INST] {{ message.content }} [/INST]{% endfor %}';
  await writeFile(join(source, 'chat_template.jinja'), template);
  const before = await bits(source);
  await convertPreset(source, folder, {to: 'huggingface', dtype: 'float32'});
  expect(await bits(folder)).toEqual(before);
  expect(readFileSync(join(folder, 'chat_template.jinja'), 'utf8')).toBe(template);
  expect(readJson(folder, 'config.json')).toEqual({...readJson(source, 'config.json'), dtype: 'float32'});
  expect((await listPresetVariables(folder)).every(({dtype}) => dtype === 'float32')).toBe(true);
  // In place, and without a dtype: that of the folder.
  await convertPreset(source, source, {to: 'huggingface'});
  expect((await listPresetVariables(source)).every(({dtype}) => dtype === 'float16')).toBe(true);
  expect(await bits(source)).toEqual(before);
});

test('a GGUF file with its chat template', async () => {
  const [folder, source] = [target(), fixture('gguf/text.gguf')];
  await convertPreset(source, folder, {to: 'huggingface'});
  expect(await bits(folder)).toEqual(await bits(source));
  const checkpoint = await openCheckpoint(source);
  const template = await checkpoint.chatTemplate!();
  expect(readJson(folder, 'tokenizer_config.json').chat_template ?? null).toBe(template);
  const [original, converted] = [await Gemma3CausalLM.fromPreset(checkpoint), await Gemma3CausalLM.fromPreset(folder)];
  await checkpoint.close();
  const text = 'the  river <end_of_turn>\n\n12,345';
  expect(converted.preprocessor!.tokenizer.tokenize(text)).toEqual(original.preprocessor!.tokenizer.tokenize(text));
  expect(converted.backbone.config).toEqual(original.backbone.config);
  original.dispose();
  converted.dispose();
});

test('a foreign chat template that is not at hand is left out, with a warning', async () => {
  const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
  const {tokenizer} = lm.preprocessor!;
  tokenizer.foreignChatTemplate = 'chat_template.jinja';
  const preset = new MemoryPreset();
  await tokenizer.exportToTransformers(preset);
  expect(warn.mock.calls.flat()).toEqual([
    expect.stringContaining('The chat template of this model was in chat_templ'),
  ]);
  expect(await preset.has('chat_template.jinja')).toBe(false);
  lm.dispose();
});

test('replaces a Keras preset in the same folder, and files of an older model', async () => {
  const folder = target();
  cpSync(TINY_PRESET, folder, {recursive: true});
  await writeFile(join(folder, 'modules.json'), '[]');
  mkdirSync(join(folder, '2_Dense'));
  await writeFile(join(folder, '2_Dense/config.json'), '{}');
  const before = await bits(folder);
  const {files} = await convertPreset(folder, folder, {to: 'huggingface', shardSize: 1_000_000});
  const kept = readdirSync(folder, {recursive: true, withFileTypes: true}).filter(entry => entry.isFile());
  expect(kept.map(({name}) => name).sort()).toEqual(files);
  expect(existsSync(join(folder, 'assets'))).toBe(false);
  expect(await bits(folder)).toEqual(before);
});

test('LoRA of a model in memory is merged', async () => {
  const [folder, saved] = [target(), target()];
  const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET, {dtype: 'float32'});
  const file = join(target(), 'a.lora.h5');
  lm.backbone.enableLora(2);
  tf.tidy(() =>
    lm.trainableWeights.forEach((weight, i) =>
      weight.write(tf.randomNormal(weight.shape as number[], 0, 0.3, 'float32', i + 1)),
    ),
  );
  await lm.exportToTransformers(folder);
  await lm.saveToPreset(saved);
  expect(await bits(folder)).toEqual(await bits(saved));
  await lm.backbone.saveLoraWeights(file);
  lm.dispose();
  const converted = target();
  await convertPreset(TINY_PRESET, converted, {to: 'huggingface', dtype: 'float32', lora: file});
  // The file has no biases of adapted layers.
  const [merged, loaded] = [await bits(converted), await bits(folder)];
  const kernels = Object.keys(merged).filter(name => !name.endsWith('bias'));
  expect(kernels.map(name => merged[name])).toEqual(kernels.map(name => loaded[name]));
  expect(merged).not.toEqual(await bits(TINY_PRESET));
});

test('what cannot be written', async () => {
  const folder = target();
  const convert = (options: object) => convertPreset(TINY_PRESET, folder, {to: 'huggingface', ...options});
  await expect(convert({dtype: 'int8'})).rejects.toThrow('Hugging Face folders have no weights in this package');
  await expect(convert({maxShardSize: 1})).rejects.toThrow('Received: maxShardSize, an option of "keras"');
  await expect(convert({shardSize: 0})).rejects.toThrow('Expected shardSize to be above 0. Received: 0.');
  const controller = new AbortController();
  const stopped = convert({signal: controller.signal, onProgress: () => controller.abort(new Error('stopped'))});
  await expect(stopped).rejects.toThrow('stopped');
  const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
  await expect(lm.exportToTransformers(folder, {dtype: 'int8' as never})).rejects.toThrow(
    'Expected dtype to be one of float32, float16, bfloat16. Received: "int8".',
  );
  const [embeddings] = lm.backbone.tokenEmbedding.weights;
  const large = tf.fill(embeddings!.shape as number[], 1e5);
  embeddings!.write(large);
  large.dispose();
  await expect(lm.exportToTransformers(folder, {dtype: 'float16'})).rejects.toThrow('float16 can hold, up to 65504');
  lm.dispose();
  expect(readdirSync(folder)).toEqual([]);
});

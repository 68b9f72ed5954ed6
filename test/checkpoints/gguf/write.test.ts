/** GGUF files that `convertPreset` writes, against files that the Python package `gguf` wrote of the same presets. */
import {mkdtemp, readdir, rm} from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3Backbone, Gemma3CausalLM, Gemma3TextEmbedder, useBackend} from '../../../src';
import {MemorySource} from '../../../src/base/byte_source';
import {type GgufFile, GgufStrings, readGguf} from '../../../src/formats/gguf';
import {applyChatTemplate, isGemmaTemplate} from '../../../src/tokenizers/chat_template';
import {GEMMA_TEMPLATE} from '../../../src/tokenizers/gemma_template';
import {MemoryFile, MemoryPreset, openCheckpoint} from '../../../src/public/files';
import {fixture, fixtureBytes, TINY_PRESET} from '../../support/fixtures';

const TEXT = fixture('gguf/text');
const EMBEDDER = fixture('embedder/embedding_model');

async function written(
  preset: Parameters<typeof convertPreset>[0],
  dtype?: 'float32' | 'bf16' | 'f16' | 'q8_0' | 'q4_0',
) {
  const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
  const target = new MemoryPreset();
  const result = await convertPreset(preset, target, {to: 'gguf', ...(dtype && {dtype})});
  warn.mockRestore();
  return {target, result};
}

const open = (bytes: Uint8Array): Promise<GgufFile> => readGguf(new MemorySource('file', bytes));

async function expectTensors(ours: Uint8Array, theirs: Uint8Array): Promise<void> {
  const [a, b] = [await open(ours), await open(theirs)];
  expect([...a.tensors.keys()].sort()).toEqual([...b.tensors.keys()].sort());
  for (const [name, tensor] of a.tensors) {
    const other = b.tensors.get(name)!;
    expect([name, tensor.type.name, tensor.shape]).toEqual([name, other.type.name, other.shape]);
    const bytes = [tensor, other].map(({offset, byteLength}, i) =>
      [ours, theirs][i]!.subarray(offset, offset + byteLength),
    );
    expect([name, Buffer.compare(bytes[0]!, bytes[1]!)]).toEqual([name, 0]);
  }
}

/** Values of all weights of a preset. */
async function weightsOf(preset: Parameters<typeof Gemma3Backbone.fromPreset>[0]): Promise<Map<string, Float32Array>> {
  const backbone = await Gemma3Backbone.fromPreset(preset);
  const values = new Map<string, Float32Array>();
  for (const weight of backbone.weights) {
    const tensor = weight.read();
    values.set(weight.originalName, (await tensor.data()) as Float32Array);
    tensor.dispose();
  }
  backbone.dispose();
  return values;
}

describe('tensors have the bytes that Python writes', () => {
  test.each([
    ['text', 'bf16'],
    ['text_f16', 'f16'],
    ['text_q8_0', 'q8_0'],
    ['text_q4_0', 'q4_0'],
  ] as const)('%s', async (name, dtype) => {
    const {target} = await written(TEXT, dtype);
    await expectTensors(target.files.get('model.gguf')!, fixtureBytes(`gguf/${name}.gguf`));
  });

  test('a model for text and images, and its vision encoder', async () => {
    const {target, result} = await written(TINY_PRESET);
    expect(result).toMatchObject({dtype: 'bfloat16', files: ['mmproj-model.gguf', 'model.gguf']});
    await expectTensors(target.files.get('model.gguf')!, fixtureBytes('gguf/tiny.gguf'));
    await expectTensors(target.files.get('mmproj-model.gguf')!, fixtureBytes('gguf/mmproj-tiny.gguf'));
  });

  test('an embedder with its dense layers', async () => {
    const {target} = await written(EMBEDDER);
    await expectTensors(target.files.get('model.gguf')!, fixtureBytes('gguf/embedding.gguf'));
  });
});

test('metadata has what Python wrote for the same model', async () => {
  const [{target}, theirs] = [await written(TEXT, 'bf16'), await open(fixtureBytes('gguf/text.gguf'))];
  const ours = await open(target.files.get('model.gguf')!);
  const plain = (value: unknown) =>
    value instanceof GgufStrings ? Array.from({length: value.length}, (_, i) => value.at(i)) : value;
  // The fixture says that a turn ends a text, has another score for rows without a token, and the length of a model whose
  // positions are not divided.
  for (const [key, value] of theirs.metadata) {
    if (['tokenizer.ggml.eos_token_id', 'tokenizer.ggml.scores', 'gemma3.context_length'].includes(key)) continue;
    const expected = plain(value);
    if (key === 'tokenizer.ggml.token_type') {
      // Published files of Gemma 3 have all of these as control tokens. The fixture has only the first one so.
      const tokens = plain(theirs.metadata.get('tokenizer.ggml.tokens')) as string[];
      const types = expected as Int32Array;
      tokens.forEach((token, i) => /^<unused\d+>$/.test(token) && (types[i] = 3));
    }
    expect([key, plain(ours.metadata.get(key))]).toEqual([key, expected]);
  }
  expect(ours.metadata.get('general.file_type')).toBe(32);
  expect(ours.metadata.get('gemma3.rope.scaling.type')).toBe('linear');
});

describe('from Keras to GGUF and back', () => {
  test.each([
    ['text', TEXT],
    ['text and images', TINY_PRESET],
    ['embeddings', EMBEDDER],
  ])('%s', async (_, preset) => {
    const {target} = await written(preset);
    const keras = new MemoryPreset();
    await convertPreset(target, keras, {to: 'keras'});
    const [before, after] = [await weightsOf(preset), await weightsOf(keras)];
    expect([...after.keys()]).toEqual([...before.keys()]);
    for (const [name, values] of before) {
      const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      // Norms are stored as 1 + scale, which has a few bits less.
      const allowed = /\/scale$/.test(name) ? largest * 2 ** -20 : 0;
      const error = after.get(name)!.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i]!)), 0);
      expect([name, error <= allowed]).toEqual([name, true]);
    }
    // What it writes from the result is the same file.
    const again = await written(keras);
    const [first, second] = [target.files.get('model.gguf')!, again.target.files.get('model.gguf')!];
    await expectTensors(second, first);
  });

  test.each(['mean', 'last'])('an embedder around a causal model keeps its pooling: %s', async pooling => {
    const preset = fixture(`embedder/${pooling}`);
    const {target} = await written(preset, 'float32');
    const back = new MemoryPreset();
    await convertPreset(target, back, {to: 'keras'});
    const [ours, theirs] = [await openCheckpoint(back), await openCheckpoint(preset)];
    const [task, expected] = [(await ours.config('task'))!, (await theirs.config('task'))!];
    expect([task.class_name, task.config.pooling_mode]).toEqual([expected.class_name, pooling]);
    await ours.close();
    await theirs.close();
  });

  test('an embedder keeps its prompts, and that it does not normalize, of which llama.cpp has to be told', async () => {
    const source = new MemoryPreset();
    const embedder = await Gemma3TextEmbedder.fromPreset(fixture('embedder/mean'), {normalize: false});
    Object.assign(embedder, {prompts: {query: 'query: ', document: 'text: '}, defaultPromptName: 'query'});
    await embedder.saveToPreset(source);
    const target = new MemoryPreset();
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    await convertPreset(source, target, {to: 'gguf', dtype: 'float32'});
    expect(warn.mock.calls.flat().join('\n')).toContain('--embd-normalize -1');
    warn.mockRestore();
    const loaded = await Gemma3TextEmbedder.fromPreset(target);
    const {normalize, prompts, defaultPromptName} = embedder;
    expect(loaded).toMatchObject({normalize, prompts, defaultPromptName});
    const [ours, theirs] = [await loaded.encodeText(['the river', 'a']), await embedder.encodeText(['the river', 'a'])];
    expect(ours).toBeAllClose((await theirs.array()) as number[][], {atol: 1e-5, rtol: 1e-5});
    tf.dispose([ours, theirs]);
    for (const model of [loaded, embedder]) model.dispose();
    // Others have none of these keys.
    const usual = await open((await written(fixture('embedder/mean'), 'float32')).target.files.get('model.gguf')!);
    expect([...usual.metadata.keys()].filter(key => key.startsWith('tfjs'))).toEqual([]);
  });

  test('quantized files keep their integers and scales', async () => {
    for (const name of ['text_q8_0', 'text_q4_0'] as const) {
      const {target} = await written(fixture(`gguf/${name}.gguf`), name === 'text_q8_0' ? 'q8_0' : 'q4_0');
      await expectTensors(target.files.get('model.gguf')!, fixtureBytes(`gguf/${name}.gguf`));
    }
  });

  test('int8 and int4 at rest go back where they came from', async () => {
    await useBackend('simd', {threads: 1});
    for (const [dtype, wanted] of [
      ['int8', 'q8_0'],
      ['int4', 'q4_0'],
    ] as const) {
      const file = `gguf/text_${wanted}.gguf`;
      const web = new MemoryPreset();
      await convertPreset(fixture(file), web, {to: 'tfjs', dtype});
      const {target, result} = await written(web);
      expect(result.dtype).toBe(wanted);
      const [ours, theirs] = [await open(target.files.get('model.gguf')!), await open(fixtureBytes(file))];
      for (const [name, tensor] of theirs.tensors) {
        const other = ours.tensors.get(name)!;
        expect([name, other.type.name]).toEqual([name, tensor.type.name]);
        if (tensor.type.blockSize === 1) continue;
        const bytes = fixtureBytes(file).subarray(tensor.offset, tensor.offset + tensor.byteLength);
        const back = target.files.get('model.gguf')!.subarray(other.offset, other.offset + other.byteLength);
        // The first two bytes of a block are the scale, which int8 and int4 round to bfloat16.
        const wrong = bytes.findIndex((byte, i) => i % tensor.type.blockBytes >= 2 && byte !== back[i]);
        expect([name, wrong]).toEqual([name, -1]);
      }
    }
  });
});

test('a path is a file, with its vision encoder next to it, and nothing else in the folder changes', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'gguf-'));
  try {
    await convertPreset(TINY_PRESET, join(folder, 'tiny-Q8_0.gguf'), {to: 'gguf', dtype: 'q8_0'});
    expect((await readdir(folder)).sort()).toEqual(['mmproj-tiny-Q8_0.gguf', 'tiny-Q8_0.gguf']);
    await convertPreset(TEXT, join(folder, 'new', 'text.gguf'), {to: 'gguf'});
    const controller = new AbortController();
    controller.abort(new Error('stopped'));
    const stopped = convertPreset(TEXT, join(folder, 'other.gguf'), {to: 'gguf', signal: controller.signal});
    await expect(stopped).rejects.toThrow('stopped');
    expect((await readdir(folder)).sort()).toEqual(['mmproj-tiny-Q8_0.gguf', 'new', 'tiny-Q8_0.gguf']);
    const lm = await Gemma3CausalLM.fromPreset(join(folder, 'tiny-Q8_0.gguf'));
    expect(lm.backbone.visionEncoder).not.toBeNull();
    lm.dispose();
  } finally {
    await rm(folder, {recursive: true});
  }
});

test('a single file can be the target of a model for text only', async () => {
  const file = new MemoryFile('text.gguf');
  const progress: number[] = [];
  const {bytes} = await convertPreset(TEXT, file, {to: 'gguf', onProgress: ({saved}) => progress.push(saved)});
  expect(progress.at(-1)).toBe(bytes);
  await expectTensors(file.bytes, fixtureBytes('gguf/text.gguf'));
  const alone = convertPreset(TINY_PRESET, new MemoryFile('tiny.gguf'), {to: 'gguf'});
  await expect(alone).rejects.toThrow(/a folder or a path as the target: "gemma3_tiny" has a vision encoder/);
});

test('what llama.cpp cannot compute or GGUF cannot hold is refused by name', async () => {
  const preset = async (change: (config: Record<string, unknown>) => void) => {
    const copy = new MemoryPreset();
    await convertPreset(TEXT, copy, {to: 'keras'});
    const file = JSON.parse(new TextDecoder().decode(copy.files.get('config.json')));
    change(file.config);
    copy.files.set('config.json', new TextEncoder().encode(JSON.stringify(file)));
    return copy;
  };
  const capped = await preset(config => (config.attention_logit_soft_cap = 50));
  await expect(written(capped)).rejects.toThrow(/with attention_logit_soft_cap=50, which its Gemma 3 does not have/);
  const scaled = await preset(config => (config.query_head_dim_normalize = false));
  await expect(written(scaled)).rejects.toThrow(/query_head_dim_normalize=false/);
  const bare = await preset(() => {});
  for (const path of bare.files.keys()) if (!/^(config|model)\./.test(path)) bare.files.delete(path);
  await expect(written(bare)).rejects.toThrow(/Expected a model with a tokenizer/);
  await expect(convertPreset(TEXT, 'x.gguf', {to: 'keras'})).rejects.toThrow(/To write that file, use to: "gguf"/);
  const vision = convertPreset(TEXT, 'mmproj-x.gguf', {to: 'gguf'});
  await expect(vision).rejects.toThrow(/a file without "mmproj"/);
  const integers = convertPreset(TEXT, new MemoryPreset(), {to: 'gguf', dtype: 'int8'});
  await expect(integers).rejects.toThrow(/In GGUF files, int8 is q8_0, and int4 is q4_0/);
});

test('the chat template is one that conversations here follow', () => {
  expect(isGemmaTemplate(GEMMA_TEMPLATE)).toBe(true);
  expect(applyChatTemplate([{role: 'user', content: 'Hi'}])).toContain('<start_of_turn>user\nHi');
});

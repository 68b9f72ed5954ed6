/**
 * Models from GGUF files, against the Keras presets from which they were made; see test/reference/make_gguf_models.py.
 */
import {readFileSync} from 'node:fs';
import {
  convertPreset,
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3ImageConverter,
  Gemma3TextEmbedder,
  Gemma3Tokenizer,
} from '../../../src';
import {MemorySource} from '../../../src/base/byte_source';
import {type GgufTensor, GgufWriter, readGguf} from '../../../src/formats/gguf';
import {type PresetLike} from '../../../src/hub/open_preset';
import {MemoryFile, MemoryPreset, openCheckpoint} from '../../../src/public/files';
import {fixture, fixtureBytes, TINY_PRESET, tinyPicture} from '../../support/fixtures';
import {serveFiles} from '../../support/file_server';

const GGUF = fixture('gguf');
const PRESET = fixture('gguf/text');

/** Values of weights by name: of all, or of those with a text in their names. */
async function weightsOf(preset: PresetLike, part = ''): Promise<Map<string, Float32Array>> {
  const backbone = await Gemma3Backbone.fromPreset(preset);
  const values = new Map<string, Float32Array>();
  for (const weight of backbone.weights) {
    if (!weight.originalName.includes(part)) continue;
    const tensor = weight.read();
    values.set(weight.originalName, (await tensor.data()) as Float32Array);
    tensor.dispose();
  }
  backbone.dispose();
  return values;
}

function expectClose(ours: Map<string, Float32Array>, theirs: Map<string, Float32Array>, relative: number): void {
  expect([...ours.keys()]).toEqual([...theirs.keys()]);
  for (const [name, values] of ours) {
    const expected = theirs.get(name)!;
    const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const error = values.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i]!)), 0);
    expect([name, error <= relative * largest ? 'close' : error]).toEqual([name, 'close']);
  }
}

// "1 + scale" has a few bits less than the scale.
const NORMS = 2 ** -20;

describe('text', () => {
  let expected: Map<string, Float32Array>;
  beforeAll(async () => {
    expected = await weightsOf(PRESET);
  });

  test('weights of a file, its parts, a File and a folder are those of the preset', async () => {
    const file = `${GGUF}/text.gguf`;
    const bytes = readFileSync(file);
    for (const preset of [
      file,
      `${GGUF}/parts-00001-of-00003.gguf`,
      new File([bytes], 'any.gguf'),
      new MemoryPreset([['model.gguf', new Uint8Array(bytes)]]),
    ]) {
      expectClose(await weightsOf(preset), expected, NORMS);
    }
  });

  test('weights at an address, in few requests', async () => {
    const server = await serveFiles({
      'text.gguf': fixtureBytes('gguf/text.gguf'),
      ...Object.fromEntries(
        [1, 2, 3].map(i => [`parts-0000${i}-of-00003.gguf`, fixtureBytes(`gguf/parts-0000${i}-of-00003.gguf`)]),
      ),
    });
    try {
      expectClose(await weightsOf(`${server.address}/text.gguf`), expected, NORMS);
      expect(server.log.length).toBeLessThanOrEqual(4);
      expectClose(await weightsOf(new URL(`${server.address}/parts-00001-of-00003.gguf`)), expected, NORMS);
    } finally {
      await server.close();
    }
  });

  test('float16 is kept exactly, and quantized values become bfloat16', async () => {
    expectClose(await weightsOf(`${GGUF}/text_f16.gguf`), expected, 2 ** -11);
    expectClose(await weightsOf(`${GGUF}/text_q8_0.gguf`), expected, 0.5 / 127 + 2 ** -8);
    expectClose(await weightsOf(`${GGUF}/text_q4_0.gguf`), expected, 1 / 8 + 2 ** -8);
  });

  test('configuration and vocabulary are those of the preset', async () => {
    const [file, preset] = [await openCheckpoint(`${GGUF}/text.gguf`), await openCheckpoint(PRESET)];
    for (const part of ['backbone', 'task', 'preprocessor', 'tokenizer', 'imageConverter'] as const) {
      expect(await file.config(part)).toEqual(await preset.config(part));
    }
    const [ours, theirs] = [await Gemma3Tokenizer.fromPreset(file), await Gemma3Tokenizer.fromPreset(preset)];
    const texts = [
      'Hello,  world!\n\n\n',
      '<start_of_turn>user\nHi<end_of_turn>',
      '<table>\t\t日本 é 𝄞',
      '<bos>x<pad>',
    ];
    for (const text of texts) expect(ours.tokenize(text)).toEqual(theirs.tokenize(text));
    await file.close();
    await preset.close();
  });

  test('a config.json of transformers next to it changes nothing, other weights do', async () => {
    const config = new TextEncoder().encode('{"model_type": "gemma3_text"}');
    const folder = new MemoryPreset([
      ['config.json', config],
      ['text.gguf', fixtureBytes('gguf/text.gguf')],
    ]);
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.format).toBe('gguf');
    await checkpoint.close();
    folder.files.set('model.safetensors', config);
    expect((await openCheckpoint(folder)).format).toBe('huggingface');
  });

  test('the task writes the same text', async () => {
    const [ours, theirs] = [
      await Gemma3CausalLM.fromPreset(`${GGUF}/text.gguf`),
      await Gemma3CausalLM.fromPreset(PRESET),
    ];
    const options = {maxLength: 40, stopTokenIds: null, stripPrompt: false} as const;
    expect(await ours.generate('The quick brown fox', options)).toBe(
      await theirs.generate('The quick brown fox', options),
    );
    ours.dispose();
    theirs.dispose();
  });

  test('converted to Keras, it is the preset again', async () => {
    const [ours, theirs] = [new MemoryPreset(), new MemoryPreset()];
    const converted = await convertPreset(`${GGUF}/text.gguf`, ours, {to: 'keras'});
    await convertPreset(PRESET, theirs, {to: 'keras'});
    expect(converted.files).toContain('assets/tokenizer/vocabulary.spm');
    for (const path of ['config.json', 'task.json', 'preprocessor.json', 'tokenizer.json', 'model.weights.h5']) {
      expect([path, Buffer.compare(ours.files.get(path)!, theirs.files.get(path)!)]).toEqual([path, 0]);
    }
    expectClose(await weightsOf(ours), expected, NORMS);
  });
});

describe('embedding', () => {
  const preset = fixture('embedder/embedding_model');

  test('with its dense layers, it is the preset', async () => {
    expectClose(await weightsOf(`${GGUF}/embedding.gguf`), await weightsOf(preset), NORMS);
    const [ours, theirs] = [
      await Gemma3TextEmbedder.fromPreset(`${GGUF}/embedding.gguf`),
      await Gemma3TextEmbedder.fromPreset(preset),
    ];
    const [a, b] = [await ours.encodeText(['One text', 'another']), await theirs.encodeText(['One text', 'another'])];
    expect(Array.from(await a.data())).toBeAllClose(Array.from(await b.data()), {atol: 1e-5});
    for (const one of [a, b, ours, theirs]) one.dispose();
  });

  test('without them, it pools hidden states, and says what is missing', async () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    const embedder = await Gemma3TextEmbedder.fromPreset(`${GGUF}/bare.gguf`);
    expect(warn).toHaveBeenCalledWith(expect.stringMatching(/bare\.gguf" has no dense layers after the pooling/));
    warn.mockRestore();
    expect(embedder.backbone.config).toMatchObject({isEmbeddingModel: false, useBidirectionalAttention: true});
    expect(embedder.poolingMode).toBe('mean');
    embedder.dispose();
  });
});

describe('vision', () => {
  const folder = (vision = 'mmproj-tiny.gguf') =>
    new MemoryPreset([
      ['tiny.gguf', fixtureBytes('gguf/tiny.gguf')],
      [vision, fixtureBytes(`gguf/${vision}`)],
    ]);

  test('the encoder next to the model is found, and the model is the preset', async () => {
    expectClose(await weightsOf(folder(), 'vision'), await weightsOf(TINY_PRESET, 'vision'), NORMS);
  });

  test('it answers a question about a picture', async () => {
    const lm = await Gemma3CausalLM.fromPreset(folder());
    const text = await lm.generate({
      prompts: 'What is in this image? <start_of_image>',
      images: tinyPicture('red_circle'),
    });
    expect(text).toMatch(/A red circle\.$/);
    lm.dispose();
  });

  test('images are prepared with mean and deviation of the file', async () => {
    const [ours, theirs] = [
      await Gemma3ImageConverter.fromPreset(folder()),
      await Gemma3ImageConverter.fromPreset(TINY_PRESET),
    ];
    const [a, b] = [await ours.call(tinyPicture('red_circle')), await theirs.call(tinyPicture('red_circle'))];
    expect(Array.from(a.dataSync())).toBeAllClose(Array.from(b.dataSync()), {atol: 1e-6});
    a.dispose();
    b.dispose();
  });

  test('files of the first converter have two layers the wrong way round', async () => {
    expectClose(await weightsOf(folder('mmproj-old.gguf'), 'vision'), await weightsOf(TINY_PRESET, 'vision'), 2 ** -11);
  });

  test('another file can be named, and without any the model is for text', async () => {
    const text = new MemoryPreset([['tiny.gguf', fixtureBytes('gguf/tiny.gguf')]]);
    const mmproj = `${GGUF}/mmproj-tiny.gguf`;
    const [withVision, alone] = [await openCheckpoint(text, {mmproj}), await openCheckpoint(text)];
    expect((await withVision.config('backbone'))!.config.image_size).toBe(64);
    expect((await alone.config('backbone'))!.config.vision_encoder).toBeNull();
    await withVision.close();
    await alone.close();
    await expect(openCheckpoint(PRESET, {mmproj})).rejects.toThrow(/`mmproj` only with a GGUF file/);
  });

  test('a text model of the same files leaves the encoder out', async () => {
    const backbone = await Gemma3Backbone.fromPreset(folder(), {visionEncoder: null});
    expect(backbone.textOnlyModel).toBe(true);
    backbone.dispose();
  });
});

test("files of Ollama's converter have the vision encoder inside", async () => {
  const names: [string, string][] = [
    ['v.patch_embd', 'v.patch_embedding'],
    ['v.position_embd', 'v.position_embedding'],
    ['v.post_ln', 'v.post_layernorm'],
    ['.ln1', '.layer_norm1'],
    ['.ln2', '.layer_norm2'],
    ['.attn_out.', '.attn_output.'],
    ['.ffn_up', '.mlp.fc1'],
    ['.ffn_down', '.mlp.fc2'],
    ['mm.input_projection', 'mm.mm_input_projection'],
    ['mm.soft_emb_norm', 'mm.mm_soft_emb_norm'],
  ];
  const [text, vision] = [fixtureBytes('gguf/tiny.gguf'), fixtureBytes('gguf/mmproj-tiny.gguf')];
  const [model, encoder] = [await readGguf(new MemorySource('', text)), await readGguf(new MemorySource('', vision))];
  const file = new GgufWriter().text('general.architecture', 'gemma3');
  for (const [key, value] of model.metadata) {
    if (key.startsWith('gemma3.rope.freq_base')) file.float32('gemma3.rope.global.freq_base', value as number);
    else if (/epsilon/.test(key)) file.float32(key, value as number);
    else if (key.startsWith('gemma3.')) file.uint32(key, value as number);
  }
  for (const [key, value] of encoder.metadata) {
    const name = key.replace(/^clip\.vision\./, 'gemma3.vision.');
    if (/epsilon/.test(key)) file.float32(name, value as number);
    else if (typeof value === 'number' && name !== key && !/projector|projection/.test(key)) file.uint32(name, value);
  }
  file.uint32('gemma3.mm.tokens_per_image', 16);
  const add = (bytes: Uint8Array, {name, shape, type, offset, byteLength}: GgufTensor, renamed = name) =>
    file.tensor({name: renamed, shape, type: type.name, data: () => [bytes.subarray(offset, offset + byteLength)]});
  for (const tensor of model.tensors.values()) add(text, tensor);
  for (const tensor of encoder.tensors.values()) {
    const found = names.find(([theirs]) => tensor.name.includes(theirs));
    add(vision, tensor, found ? tensor.name.replace(...found) : tensor.name);
  }
  const target = new MemoryFile('ollama.gguf');
  await file.writeTo(target);
  const preset = new MemoryPreset([['ollama.gguf', target.bytes]]);
  const checkpoint = await openCheckpoint(preset);
  const theirs = await openCheckpoint(TINY_PRESET);
  const [ours, expected] = [(await checkpoint.config('backbone'))!.config, (await theirs.config('backbone'))!.config];
  expect(ours.vision_encoder).toEqual(expected.vision_encoder);
  await checkpoint.close();
  await theirs.close();
  expectClose(await weightsOf(preset), await weightsOf(TINY_PRESET), NORMS);
});

test("an embedder of Ollama's has the architecture of the language model, and other names of its dense layers", async () => {
  const bytes = fixtureBytes('gguf/embedding.gguf');
  const {metadata, tensors} = await readGguf(new MemorySource('', bytes));
  const file = new GgufWriter().text('general.architecture', 'gemma3');
  for (const [key, value] of metadata) {
    const name = key.replace('gemma-embedding.', 'gemma3.').replace('rope.freq_base_swa', 'rope.local.freq_base');
    if (name === key || /dense_\d_feat/.test(key)) continue;
    if (/epsilon|freq_base/.test(key)) file.float32(name, value as number);
    else if (typeof value === 'number') file.uint32(name, value);
  }
  for (const {name, shape, type, offset, byteLength} of tensors.values()) {
    const renamed = name.replace('dense_2', 'dense.0').replace('dense_3', 'dense.1');
    file.tensor({name: renamed, shape, type: type.name, data: () => [bytes.subarray(offset, offset + byteLength)]});
  }
  const target = new MemoryFile('ollama.gguf');
  await file.writeTo(target);
  const preset = new MemoryPreset([['ollama.gguf', target.bytes]]);
  const [ours, theirs] = [await openCheckpoint(preset), await openCheckpoint(fixture('embedder/embedding_model'))];
  const [own, expected] = [(await ours.config('backbone'))!.config, (await theirs.config('backbone'))!.config];
  for (const key of [
    'use_bidirectional_attention',
    'is_embedding_model',
    'pooling_intermediate_dim',
    'embedding_dim',
  ]) {
    expect([key, own[key]]).toEqual([key, expected[key]]);
  }
  expect(own.sliding_window_size).toBe(expected.sliding_window_size);
  expect((await ours.config('task'))!.class_name).toBe('Gemma3TextEmbedder');
  await ours.close();
  await theirs.close();
  expectClose(await weightsOf(preset), await weightsOf(fixture('embedder/embedding_model')), NORMS);
});

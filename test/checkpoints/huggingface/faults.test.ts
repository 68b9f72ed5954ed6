/** Folders of Hugging Face that cannot be read: each error names what is wrong, where, and what was expected. */
import {cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {type Json, type JsonObject} from '../../../src/base/json';
import {Gemma3Backbone} from '../../../src/models/gemma3/gemma3_backbone';
import {Gemma3CausalLMPreprocessor} from '../../../src/models/gemma3/gemma3_causal_lm_preprocessor';
import {Gemma3TextEmbedder} from '../../../src/models/gemma3/gemma3_text_embedder';
import {Gemma3Tokenizer} from '../../../src/models/gemma3/gemma3_tokenizer';
import {fixture, fixtureJson} from '../../support/fixtures';
import {rejection} from '../../support/hdf5_files';

const folders: string[] = [];
afterAll(() => folders.forEach(folder => rmSync(folder, {recursive: true})));

let tensors = 0;
beforeEach(() => (tensors = tf.memory().numTensors));
afterEach(() => expect(tf.memory().numTensors).toBe(tensors));

function copyOf(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'hf-'));
  folders.push(folder);
  cpSync(fixture(`huggingface/${name}`), folder, {recursive: true});
  return folder;
}

function editJson(folder: string, file: string, change: (json: JsonObject) => unknown): void {
  const path = join(folder, file);
  const json = (existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}) as JsonObject;
  change(json);
  writeFileSync(path, JSON.stringify(json));
}

interface Entry {
  dtype: string;
  shape: number[];
  data_offsets: [number, number];
}

/** Writes a safetensors file again with other tensors. `rename` leaves out those for which it returns null. */
function editTensors(
  folder: string,
  change: (tensors: Map<string, {entry: Entry; bytes: Buffer}>) => void,
  file = 'model.safetensors',
): void {
  const path = join(folder, file);
  const bytes = readFileSync(path);
  const length = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as Record<string, Entry>;
  const tensors = new Map(
    Object.entries(header)
      .filter(([name]) => name !== '__metadata__')
      .map(([name, entry]) => {
        const [begin, end] = entry.data_offsets;
        return [name, {entry, bytes: bytes.subarray(8 + length + begin, 8 + length + end)}];
      }),
  );
  change(tensors);
  const written: Record<string, Entry> = {};
  let at = 0;
  for (const [name, {entry, bytes: values}] of tensors) {
    written[name] = {...entry, data_offsets: [at, (at += values.length)]};
  }
  const text = Buffer.from(JSON.stringify(written));
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([head, text, ...[...tensors.values()].map(tensor => tensor.bytes)]));
}

const rename = (pattern: RegExp, replacement: string) => (tensors: Map<string, unknown>) => {
  for (const [name, value] of [...tensors]) {
    tensors.delete(name);
    tensors.set(name.replace(pattern, replacement), value);
  }
};

const failure = (folder: string) => rejection(Gemma3Backbone.fromPreset(folder));

describe('config.json', () => {
  const configFailure = async (change: (config: JsonObject) => unknown, name = 'text') => {
    const folder = copyOf(name);
    editJson(folder, 'config.json', change);
    return failure(folder);
  };

  test('of another architecture is refused by its name', async () => {
    const message = await configFailure(config => {
      config.model_type = 'llama';
      config.architectures = ['LlamaForCausalLM'];
    });
    expect(message).toContain('one of these types');
    expect(message).toContain('gemma3, gemma3_text. Received: "llama", LlamaForCausalLM');
  });

  test.each<[string, (config: JsonObject) => unknown, string]>([
    [
      'activation',
      config => (config.hidden_activation = 'silu'),
      'hidden_activation="silu", expected "gelu_pytorch_tanh"',
    ],
    ['biases', config => (config.attention_bias = true), 'attention_bias=true, expected false'],
    [
      'query scale',
      config => (config.query_pre_attn_scalar = 100),
      'query_pre_attn_scalar=100, expected head_dim, 8, or hidden_size / num_attention_heads, 4',
    ],
    [
      'wavelength',
      config => ((config.rope_parameters as JsonObject).full_attention = {rope_theta: 500_000}),
      'rope_theta=500000, expected 1000000',
    ],
    [
      'kind of RoPE',
      config => ((config.rope_parameters as JsonObject).full_attention = {rope_type: 'yarn', factor: 4}),
      'rope_scaling.rope_type="yarn", expected "default" or "linear"',
    ],
    [
      'layers with a window',
      config => (config.layer_types = Array<Json>(7).fill('sliding_attention')),
      'layer_types=["sliding_attention"',
    ],
    [
      'quantization',
      config => (config.quantization_config = {quant_method: 'gptq'}),
      'quantization_config={"quant_method":"gptq"}, expected floating-point weights',
    ],
    ['dtype', config => (config.dtype = 'float8'), 'dtype="float8", expected float32 or bfloat16 or float16'],
    ['sizes', config => (config.hidden_size = '16'), 'hidden_size="16", expected a number'],
  ])('with %s that the backbone cannot represent', async (_, change, message) => {
    expect(await configFailure(change)).toContain(message);
  });

  test('with an uneven pattern of older versions', async () => {
    expect(await configFailure(config => (config.sliding_window_pattern = 4), 'text_4.51')).toContain(
      'sliding_window_pattern=4, expected 6',
    );
  });

  test('with image tokens that do not divide the patches', async () => {
    expect(await configFailure(config => (config.mm_tokens_per_image = 9), 'vision')).toContain(
      'vision_config.image_size=16, expected patches that 9 tokens divide evenly',
    );
  });

  test('with unknown keys warns', async () => {
    const folder = copyOf('text');
    editJson(folder, 'config.json', config => (config.use_magic = true));
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    const backbone = await Gemma3Backbone.fromPreset(folder, {loadWeights: false});
    expect(warn.mock.calls.flat()).toEqual([expect.stringContaining('unknown keys that are ignored: use_magic.')]);
    warn.mockRestore();
    backbone.dispose();
  });

  test('with keys of two versions of transformers', async () => {
    const folder = copyOf('text');
    editJson(folder, 'config.json', config =>
      Object.assign(config, {rope_theta: 1_000_000, rope_local_base_freq: 10_000}),
    );
    const warn = jest.spyOn(console, 'warn').mockImplementation(() => {});
    const backbone = await Gemma3Backbone.fromPreset(folder, {loadWeights: false});
    expect(warn).not.toHaveBeenCalled();
    expect(backbone.globalRopeScalingFactor).toBe(8);
    warn.mockRestore();
    backbone.dispose();
  });

  test('left out', async () => {
    const folder = copyOf('text');
    rmSync(join(folder, 'config.json'));
    expect(await failure(folder)).toBe(
      `Expected "config.json" in "${folder}". Received: a folder without it. Fetch the folder again.`,
    );
  });

  test('of an adapter', async () => {
    const folder = copyOf('text');
    for (const file of ['config.json', 'model.safetensors']) rmSync(join(folder, file));
    writeFileSync(join(folder, 'adapter_config.json'), '{}');
    expect(await failure(folder)).toContain('an adapter of PEFT. Load its base model');
  });
});

describe('tensors', () => {
  test('missing, unknown and misshapen ones are named with file and both shapes', async () => {
    const folder = copyOf('text');
    editTensors(folder, stored => {
      stored.get('model.layers.0.self_attn.q_proj.weight')!.entry.shape = [16, 32];
      stored.set('model.layers.9.input_layernorm.weight', stored.get('model.norm.weight')!);
      stored.delete('model.norm.weight');
    });
    const message = await failure(folder);
    expect(message).toContain(
      '"model.layers.0.self_attn.q_proj.weight" in model.safetensors has shape [16,32], expected [32,16]',
    );
    expect(message).toContain('"model.norm.weight" of shape [16] is missing from model.safetensors');
    expect(message).toContain(
      '"model.layers.9.input_layernorm.weight" of shape [16] in model.safetensors is not in the model',
    );
  });

  test('of integers are refused', async () => {
    const folder = copyOf('text');
    editTensors(folder, stored => (stored.get('model.norm.weight')!.entry.dtype = 'I16'));
    expect(await failure(folder)).toContain('"model.norm.weight" in model.safetensors has dtype I16, expected float16');
  });

  test('with two names of one tensor are refused', async () => {
    const folder = copyOf('text');
    editTensors(folder, stored => stored.set('norm.weight', stored.get('model.norm.weight')!));
    expect(await failure(folder)).toContain('"model.norm.weight" and "norm.weight", two names of the same one');
  });

  test.each([
    ['of models without a head', 'text', /^model\./, ''],
    ['of transformers 4.52 in memory', 'vision', /^language_model\.model\./, 'model.language_model.'],
    ['of the vision tower since 5', 'vision_4.51', /^vision_tower\.vision_model\./, 'model.vision_tower.'],
  ])('names %s are read', async (_, name, pattern, replacement) => {
    const folder = copyOf(name);
    editTensors(folder, rename(pattern, replacement));
    const backbone = await Gemma3Backbone.fromPreset(folder);
    const original = await Gemma3Backbone.fromPreset(fixture(`huggingface/${name}`));
    const kernels = [backbone, original].map(({transformerLayers}) => transformerLayers[0]!.weights[0]!.read());
    expect(kernels[0]).toBeAllClose(kernels[1]!, 0);
    backbone.dispose();
    original.dispose();
  });
});

describe('a head', () => {
  const withHead = (change: (bytes: Buffer) => Buffer, shape?: number[]) => {
    const folder = copyOf('text');
    editTensors(folder, stored => {
      const {entry, bytes} = stored.get('model.embed_tokens.weight')!;
      const values = change(Buffer.from(bytes));
      stored.set('lm_head.weight', {entry: {...entry, ...(shape && {shape})}, bytes: values});
    });
    return folder;
  };

  test('that equals the embedding is accepted', async () => {
    const backbone = await Gemma3Backbone.fromPreset(withHead(bytes => bytes));
    backbone.dispose();
  });

  test('with other values is refused', async () => {
    const folder = withHead(bytes => {
      bytes.writeUInt16LE(0x3f80, 200);
      return bytes;
    });
    const message = await failure(folder);
    expect(message).toContain('Expected "lm_head.weight" in model.safetensors');
    expect(message).toContain('to equal "model.embed_tokens.weight" in model.safetensors');
    expect(message).toContain('as value 100.');
  });

  test('of another shape is refused', async () => {
    const folder = withHead(bytes => bytes.subarray(0, 16 * 2), [1, 16]);
    expect(await failure(folder)).toContain('Received shapes [1,16] and [1500,16]');
  });
});

describe('weight files', () => {
  test('pickled ones only', async () => {
    const folder = copyOf('text');
    rmSync(join(folder, 'model.safetensors'));
    writeFileSync(join(folder, 'pytorch_model.bin'), 'x');
    const message = await failure(folder);
    expect(message).toContain('Received: only "pytorch_model.bin", a pickled Python object');
    expect(message).toContain('save_pretrained');
  });

  test('none', async () => {
    const folder = copyOf('text');
    rmSync(join(folder, 'model.safetensors'));
    expect(await failure(folder)).toContain('Received: neither.');
  });

  test('outside the folder', async () => {
    for (const file of ['../text/model.safetensors', '/etc/passwd', 'a/b.safetensors', 'model.bin', 7]) {
      const folder = copyOf('shards');
      editJson(folder, 'model.safetensors.index.json', index => {
        (index.weight_map as JsonObject)['model.norm.weight'] = file;
      });
      expect(await failure(folder)).toContain('names of .safetensors files of the same folder');
    }
  });

  test('that differ from their index', async () => {
    const folder = copyOf('shards');
    editJson(folder, 'model.safetensors.index.json', index => {
      const map = index.weight_map as JsonObject;
      map['model.norm.weight'] = 'model-00001-of-00003.safetensors';
      map['model.more.weight'] = 'model-00001-of-00003.safetensors';
    });
    const message = await failure(folder);
    expect(message).toContain('"model.norm.weight" is not in model-00001-of-00003.safetensors, but in model-00003');
    expect(message).toContain('"model.more.weight" is not in model-00001-of-00003.safetensors');
  });

  test('that are cut off', async () => {
    const folder = copyOf('text');
    const path = join(folder, 'model.safetensors');
    writeFileSync(path, readFileSync(path).subarray(0, 50_000));
    expect(await failure(folder)).toContain('is not a safetensors file, or is damaged');
  });
});

describe('images', () => {
  test.each<[string, (settings: JsonObject) => unknown, string]>([
    ['crops', settings => (settings.do_pan_and_scan = true), 'do_pan_and_scan=true, expected false'],
    [
      'another size',
      settings => (settings.size = {height: 8, width: 16}),
      'size={"height":8,"width":16}, expected 16 pixels',
    ],
    ['a filter', settings => (settings.resample = 5), 'resample=5, expected 0, 1, 2 or 3'],
  ])('with %s that KerasHub does not have', async (_, change, message) => {
    const folder = copyOf('vision');
    editJson(folder, 'preprocessor_config.json', change);
    expect(await rejection(Gemma3CausalLMPreprocessor.fromPreset(folder))).toContain(message);
  });

  test('without settings', async () => {
    const folder = copyOf('vision');
    rmSync(join(folder, 'preprocessor_config.json'));
    expect(await rejection(Gemma3CausalLMPreprocessor.fromPreset(folder))).toContain(
      'Expected "preprocessor_config.json"',
    );
  });

  test('settings in the file of the whole processor', async () => {
    const folder = copyOf('vision');
    const settings = fixtureJson<JsonObject>('huggingface/vision/preprocessor_config.json');
    rmSync(join(folder, 'preprocessor_config.json'));
    editJson(folder, 'processor_config.json', json => {
      json.image_processor = {...settings, image_mean: [0.4, 0.5, 0.6], image_std: [0.2, 0.5, 0.25]};
    });
    const {imageConverter} = await Gemma3CausalLMPreprocessor.fromPreset(folder);
    expect(imageConverter!.scale).toBeAllClose([1 / 51, 2 / 255, 4 / 255]);
    expect(imageConverter!.offset).toBeAllClose([-2, -1, -2.4]);
  });
});

describe('an embedder', () => {
  const embedderFailure = async (file: string, change: (json: JsonObject) => unknown) => {
    const folder = copyOf('embedder');
    editJson(folder, file, change);
    return rejection(Gemma3TextEmbedder.fromPreset(folder));
  };

  test('with another activation', async () => {
    const message = await embedderFailure('2_Dense/config.json', json => (json.activation_function = 'torch.nn.Tanh'));
    expect(message).toContain('2_Dense: activation_function="torch.nn.Tanh", expected Identity');
  });

  test('with another pooling', async () => {
    const message = await embedderFailure('1_Pooling/config.json', json => {
      json.pooling_mode_mean_tokens = false;
      json.pooling_mode_cls_token = true;
    });
    expect(message).toContain('1_Pooling: pooling pooling_mode_cls_token, expected the mean or the last token');
  });

  test('with folders outside', async () => {
    const message = await embedderFailure('modules.json', json => {
      (json as unknown as JsonObject[])[2]!.path = '../2_Dense';
    });
    expect(message).toContain('Expected modules with type and path');
  });

  test('without one of its dense layers', async () => {
    const message = await embedderFailure('modules.json', json => (json as unknown as JsonObject[]).splice(3, 1));
    expect(message).toContain('modules Transformer, Pooling, Dense, Normalize');
  });
});

test('a folder without a tokenizer', async () => {
  const folder = copyOf('text');
  rmSync(join(folder, 'tokenizer.model'));
  expect(await rejection(Gemma3Tokenizer.fromPreset(folder))).toContain(
    'Expected "tokenizer.model" or "tokenizer.json"',
  );
});

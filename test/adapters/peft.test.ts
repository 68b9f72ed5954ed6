/**
 * PEFT adapters: those that PEFT saved change the weights by the same values here, and exported ones can be imported
 * again.
 */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone} from '../../src';
import {loraLayers} from '../../src/adapters/model_lora';
import {huggingFaceNames} from '../../src/models/gemma3/names/huggingface';
import {MemoryPreset} from '../../src/public/files';
import {fixture, fixtureBytes, fixtureJson} from '../support/fixtures';

const VISION = {
  ...{imageSize: 8, patchSize: 2, numHeads: 2, hiddenDim: 6, numLayers: 2, intermediateDim: 10, outputDim: 8},
  poolSize: 2,
};

/** The model of make_peft_fixtures.py. */
const make = (visionEncoder: object | null = null) =>
  new Gemma3Backbone({
    ...{vocabularySize: 32, imageSize: 8, numLayers: 2, numQueryHeads: 4, numKeyValueHeads: 2, hiddenDim: 8},
    ...{intermediateDim: 12, headDim: 4, visionEncoder},
  });

/** What each module adds to its weight, (out, in) flattened, in Hugging Face's order. */
function deltas(backbone: Gemma3Backbone): Record<string, number[]> {
  const entries = [...huggingFaceNames(backbone).modules].filter(([, layer]) => layer.loraEnabled);
  return Object.fromEntries(
    entries.map(([name, layer]) =>
      tf.tidy(() => {
        const {a, b} = layer.loraMatrices!;
        const rank = layer.loraRank!;
        const product = tf.matMul(tf.reshape(a.read(), [-1, rank]), b.read() as tf.Tensor2D);
        const delta = tf.reshape(tf.mul(product, layer.loraScale), layer.adapted.shape as number[]);
        const heads = /[qkv]_proj$/.test(name) && delta.rank === 3;
        const matrix = heads
          ? tf.reshape(tf.transpose(delta, [0, 2, 1]), [-1, delta.shape[1]!])
          : tf.transpose(tf.reshape(delta, [-1, delta.shape.at(-1)!]));
        return [name, Array.from(matrix.dataSync())] as const;
      }),
    ),
  );
}

function randomize(backbone: Gemma3Backbone): void {
  tf.tidy(() => {
    backbone.trainableWeights.forEach((weight, i) =>
      weight.write(tf.randomNormal(weight.shape as number[], 0, 0.3, 'float32', i + 1)),
    );
  });
}

const expectSame = (actual: Record<string, number[]>, expected: Record<string, number[]>) => {
  expect(Object.keys(actual).sort()).toEqual(Object.keys(expected).sort());
  for (const [name, values] of Object.entries(expected)) {
    expect(actual[name]!).toBeAllClose(values, {atol: 1e-5});
  }
};

test.each(['usual', 'patterns', 'rslora'])('an adapter that PEFT saved adds the same values: %s', async name => {
  const backbone = make();
  await backbone.importPeftAdapter(fixture(`lora/peft/${name}`));
  const expected = fixtureJson<Record<string, number[]>>(`lora/peft/${name}/expected.json`);
  expectSame(
    deltas(backbone),
    Object.fromEntries(Object.entries(expected).map(([key, values]) => [`model.${key}`, values])),
  );
  expect(new Set([...loraLayers(backbone).values()].map(({loraRank}) => loraRank)).size).toBe(1);
  backbone.dispose();
});

test.each([
  ['text', null],
  ['vision', VISION],
])('an exported adapter is imported unchanged: %s', async (_, vision) => {
  const [backbone, other] = [make(vision), make(vision)];
  backbone.enableLora(3, {
    alpha: 5,
    targetLayerNames: ['query', 'value', 'attention_output', /ffw|mlp_dense|query_proj/],
  });
  randomize(backbone);
  const adapter = new MemoryPreset();
  const before = tf.memory().numTensors;
  await backbone.exportPeftAdapter(adapter, {baseModel: 'google/gemma-3-270m'});
  expect(tf.memory().numTensors).toBe(before);
  expect([...adapter.files.keys()].sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
  await other.importPeftAdapter(adapter);
  const matrices = (model: Gemma3Backbone) =>
    [...loraLayers(model).values()].map(({loraRank, loraAlpha, loraMatrices}) => [
      loraRank,
      loraAlpha,
      Array.from(loraMatrices!.a.read().dataSync()),
      Array.from(loraMatrices!.b.read().dataSync()),
    ]);
  expect(matrices(other)).toEqual(matrices(backbone));
  backbone.dispose();
  other.dispose();
});

test('the configuration uses short module names where they are unambiguous', async () => {
  const config = async (vision: object | null, targets: (string | RegExp)[]) => {
    const backbone = make(vision);
    backbone.enableLora(2, {alpha: 6, targetLayerNames: targets});
    const adapter = new MemoryPreset();
    await backbone.exportPeftAdapter(adapter);
    backbone.dispose();
    return JSON.parse(new TextDecoder().decode(adapter.files.get('adapter_config.json'))) as Record<string, unknown>;
  };
  const usual = {peft_type: 'LORA', r: 2, lora_alpha: 6, bias: 'none', base_model_name_or_path: null};
  expect(await config(null, ['query', 'ffw_linear'])).toMatchObject({
    ...usual,
    target_modules: ['down_proj', 'q_proj'],
    rank_pattern: {q_proj: 8},
    alpha_pattern: {q_proj: 24},
  });
  expect(await config(null, [/block_1.attention.query$/])).toMatchObject({
    target_modules: ['model.layers.1.self_attn.q_proj'],
    rank_pattern: {'model.layers.1.self_attn.q_proj': 8},
  });
  expect(await config(VISION, ['query'])).toMatchObject({
    target_modules: [0, 1].map(i => `model.language_model.layers.${i}.self_attn.q_proj`),
  });
  expect(await config(VISION, ['mlp_dense_1'])).toMatchObject({
    target_modules: [1, 0].map(i => `model.vision_tower.vision_model.encoder.layers.${i}.mlp.fc1`),
    rank_pattern: {},
  });
});

describe('refuses', () => {
  let backbone: Gemma3Backbone;
  beforeEach(() => (backbone = make()));
  afterEach(() => void backbone.dispose());

  const files = new Map(
    ['adapter_config.json', 'adapter_model.safetensors'].map(
      name => [name, fixtureBytes(`lora/peft/usual/${name}`)] as const,
    ),
  );
  const changed = (config: object) => {
    const text = new TextDecoder().decode(files.get('adapter_config.json'));
    const bytes = new TextEncoder().encode(JSON.stringify({...(JSON.parse(text) as object), ...config}));
    return new MemoryPreset([...files, ['adapter_config.json', bytes]]);
  };

  test.each([
    [{peft_type: 'IA3'}, /peft_type "LORA".* Received: "IA3"/],
    [{use_dora: true}, /two matrices per layer .* Received: use_dora=true/],
    [{modules_to_save: ['lm_head']}, /Received: modules_to_save=\["lm_head"\]/],
    [{bias: 'all'}, /Received: bias="all"/],
    [{r: 0}, /expected `r` to be a positive integer/],
    [{lora_alpha: null}, /expected `lora_alpha` to be above 0/],
  ])('adapters of another kind: %j', async (config, message) => {
    await expect(backbone.importPeftAdapter(changed(config))).rejects.toThrow(message);
    expect(backbone.loraEnabled).toBe(false);
  });

  test('adapters of another model, naming what does not fit', async () => {
    const other = new Gemma3Backbone({
      ...(backbone.getConfig() as never as {config: object}),
      hiddenDim: 10,
      numLayers: 1,
    } as never);
    const load = other.importPeftAdapter(new MemoryPreset(files));
    await expect(load).rejects.toThrow(/q_proj\.lora_A\.weight" has shape \[2,8\], expected \[rank, 10\]/);
    await expect(load).rejects.toThrow(/layers\.1\.self_attn\.\w+\.lora_A\.weight" belongs to no layer of the model/);
    expect(other.loraEnabled).toBe(false);
    other.dispose();
  });

  test('missing and damaged files', async () => {
    const [config, weights] = [...files.values()] as [Uint8Array, Uint8Array];
    const preset = (...given: [string, Uint8Array][]) => backbone.importPeftAdapter(new MemoryPreset(given));
    await expect(preset()).rejects.toThrow(/Expected file "adapter_config.json"/);
    await expect(preset(['adapter_config.json', config])).rejects.toThrow(/Expected file "adapter_model.safetensors"/);
    await expect(preset(['adapter_config.json', weights])).rejects.toThrow(/Expected JSON/);
    const cut = weights.subarray(0, weights.length - 4);
    await expect(preset(['adapter_config.json', config], ['adapter_model.safetensors', cut])).rejects.toThrow(
      /damaged/,
    );
    expect(backbone.loraEnabled).toBe(false);
  });

  test('exporting without LoRA or with LoRA of the embedding, and unknown options', async () => {
    const target = new MemoryPreset();
    await expect(backbone.exportPeftAdapter(target)).rejects.toThrow(/no lora-enabled layers/);
    backbone.enableLora(2, {targetLayerNames: ['token_embedding']});
    await expect(backbone.exportPeftAdapter(target)).rejects.toThrow(
      /"token_embedding", which is also the output head here/,
    );
    await expect(backbone.exportPeftAdapter(target, {base: ''} as never)).rejects.toThrow(/no argument "base"/);
    expect(target.files.size).toBe(0);
  });
});

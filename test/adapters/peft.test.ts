/**
 * PEFT adapters: those that PEFT saved change the weights by the same values here, and exported ones can be imported
 * again.
 */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, ValueError} from '../../src';
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

type Config = Record<string, unknown>;

/** An adapter of the fixtures with other settings, and other names of modules. */
function edited(name: string, settings: Config, rename = (module: string) => module): MemoryPreset {
  const config = fixtureJson<Config>(`lora/peft/${name}/adapter_config.json`);
  return new MemoryPreset([
    ['adapter_config.json', new TextEncoder().encode(JSON.stringify({...config, ...settings}))],
    ['adapter_model.safetensors', renamed(fixtureBytes(`lora/peft/${name}/adapter_model.safetensors`), rename)],
  ]);
}

/** A safetensors file with other names of tensors. */
function renamed(file: Uint8Array, rename: (module: string) => string): Uint8Array {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const end = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, end))) as object;
  const names = Object.entries(header).map(([name, entry]) => [
    name.replace(/^base_model\.model\.(.+)(?=\.lora_)/, (_, module: string) => `base_model.model.${rename(module)}`),
    entry as unknown,
  ]);
  const bytes = new TextEncoder().encode(JSON.stringify(Object.fromEntries(names)));
  const result = new Uint8Array(8 + bytes.length + file.length - end);
  new DataView(result.buffer).setBigUint64(0, BigInt(bytes.length), true);
  result.set(bytes, 8);
  result.set(file.subarray(end), 8 + bytes.length);
  return result;
}

/** Prefixes of text layers: models without vision, with vision, and with vision before transformers 4.52. */
const NAMINGS = ['model.layers', 'model.language_model.layers', 'language_model.model.layers'];

describe.each([
  ['text', null],
  ['vision', VISION],
])('patterns of an adapter that PEFT saved, into a model with %s', (kind, vision) => {
  const expected = Object.fromEntries(
    Object.entries(fixtureJson<Record<string, number[]>>('lora/peft/patterns/expected.json')).map(([name, values]) => [
      `model.${kind === 'vision' ? 'language_model.' : ''}${name}`,
      values,
    ]),
  );
  const check = async (naming: string, alpha: Config, rank: Config) => {
    const backbone = make(vision);
    const rename = (module: string) => module.replace(/^model\.layers/, naming);
    const settings = {alpha_pattern: alpha, rank_pattern: rank};
    await backbone.importPeftAdapter(edited('patterns', settings, rename));
    expectSame(deltas(backbone), expected);
    backbone.dispose();
  };

  test.each(NAMINGS)('tensors in %s, patterns in any naming', async naming => {
    for (const other of NAMINGS) {
      const whole = other.replaceAll('.', '\\.');
      await check(
        naming,
        {[`${whole}\\.0\\.mlp\\.gate_proj`]: 1, [`${other}.1.mlp.gate_proj`]: 1},
        {[`^${whole}\\.\\d\\.mlp\\.down_proj$`]: 1, [`${other}.1.self_attn.k_proj`]: 3},
      );
    }
  });

  test('short names, and what Python writes in its own way', async () => {
    await check(
      NAMINGS[2]!,
      {'\\Alanguage_model\\.model\\.layers\\.(?P<layer>\\d{,2})\\.mlp\\.gate_proj\\Z': 1},
      {'[01].mlp.down_proj': 1, '1.self_attn.k_proj': 3},
    );
  });

  test('the first pattern counts', async () => {
    const rank = {down_proj: 1, '1\\.self_attn\\.k_proj': 3};
    await check('model.layers', {gate_proj: 1, '.*gate_proj': 50}, rank);
  });
});

test('names of the vision tower in transformers 5', async () => {
  const [backbone, other] = [make(VISION), make(VISION)];
  backbone.enableLora(2, {alpha: 6, targetLayerNames: ['mlp_dense_1']});
  randomize(backbone);
  const adapter = new MemoryPreset();
  await backbone.exportPeftAdapter(adapter);
  const weights = renamed(adapter.files.get('adapter_model.safetensors')!, module =>
    module.replace('vision_model.', ''),
  );
  await other.importPeftAdapter(new MemoryPreset([...adapter.files, ['adapter_model.safetensors', weights]]));
  expectSame(deltas(other), deltas(backbone));
  backbone.dispose();
  other.dispose();
});

// What these settings do in PEFT 0.21: nothing to the sum of the base weights and the product of the matrices.
test.each<Config>([
  ...[true, false, null, 'gaussian', 'Gaussian', 'eva', 'orthogonal', 'mica'].map(value => ({
    init_lora_weights: value,
  })),
  {eva_config: {rho: 2}, corda_config: {corda_method: 'ipm'}, lora_ga_config: {scale: 'stable'}},
  {lora_dropout: 0.1, megatron_core: 'my.core', qalora_group_size: 32, ensure_weight_tying: true, revision: 'main'},
  {exclude_modules: ['lm_head'], layers_to_transform: [0, 1], layers_pattern: 'layers'},
  {exclude_modules: '.*vision_tower.*', layers_to_transform: [0, 1, 7], layers_pattern: []},
  {target_modules: '(?:.*?(?:language|text|model).*?(?:self_attn|mlp).*?(?:q_proj|v_proj).*?)'},
  {target_modules: 'all-linear'},
  {target_modules: null, alpha_pattern: null, rank_pattern: null, use_rslora: null},
  {alora_invocation_tokens: [], trainable_token_indices: {}, use_bdlora: null, arrow_config: null},
  {enable_lora: null, merge_weights: true},
  {a_key_of_tomorrow: null, another: false, a_third: {}, a_fourth: []},
])('settings that change nothing: %j', async settings => {
  const backbone = make();
  await backbone.importPeftAdapter(edited('usual', settings));
  const expected = fixtureJson<Record<string, number[]>>('lora/peft/usual/expected.json');
  expectSame(
    deltas(backbone),
    Object.fromEntries(Object.entries(expected).map(([key, values]) => [`model.${key}`, values])),
  );
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
    ...{r: 8, lora_alpha: 24, rank_pattern: {}, alpha_pattern: {}},
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
  test.each([
    [{peft_type: 'IA3'}, /peft_type "LORA".* Received: "IA3"/],
    [{use_dora: true}, /two matrices per layer .* Received: use_dora=true/],
    [{modules_to_save: ['lm_head']}, /Received: modules_to_save=\["lm_head"\]/],
    [{bias: 'all'}, /Received: bias="all"/],
    [{r: 0}, /expected `r` to be a positive integer/],
    [{lora_alpha: null}, /expected `lora_alpha` to be above 0/],
    [{use_rslora: 'no'}, /expected `use_rslora` to be true or false/],
    [{init_lora_weights: 'pissa'}, /init_lora_weights="pissa", which changes them.*path_initial_model_for_weight/],
    [{init_lora_weights: 'pissa_niter_16'}, /init_lora_weights="pissa_niter_16", which changes them/],
    [{init_lora_weights: 'olora'}, /init_lora_weights="olora", which changes them/],
    [{init_lora_weights: 'OLoRA'}, /init_lora_weights="OLoRA", which changes them/],
    [{init_lora_weights: 'corda'}, /init_lora_weights="corda", which changes them/],
    [{init_lora_weights: 'lora_ga'}, /init_lora_weights="lora_ga", which changes them/],
    [{init_lora_weights: 'loftq'}, /init_lora_weights="loftq", which quantizes them/],
    [{loftq_config: {loftq_bits: 4, loftq_iter: 1}}, /loftq_config=.*, which quantizes them/],
    [{init_lora_weights: 'tomorrow'}, /init_lora_weights="tomorrow", which is unknown/],
    [{init_lora_weights: 2}, /init_lora_weights=2, which is unknown/],
    ...[
      ...[{use_qalora: true}, {use_bdlora: {nblocks: 2}}, {fan_in_fan_out: true}, {lora_bias: true}],
      ...[{trainable_token_indices: [1]}, {layer_replication: [[0, 2]]}, {target_parameters: ['experts']}],
      ...[{megatron_config: {tp: 1}}, {velora_config: {scale: 1}}, {monteclora_config: {num_samples: 8}}],
      ...[{kasa_config: {beta: 0.1}}, {alora_invocation_tokens: [5]}, {arrow_config: {top_k: 3}}],
      ...[{a_key_of_tomorrow: 1}, {enable_lora: [true]}],
    ].map(config => [config, new RegExp(`Received: ${Object.keys(config)[0]}=`)] as [object, RegExp]),
    [{a_key_of_tomorrow: 'x'}, /Received: a_key_of_tomorrow="x", which is unknown here.* remove it from the file/],
    [{alpha_pattern: ['q_proj']}, /expected `alpha_pattern` to be an object/],
    [{alpha_pattern: {q_proj: '8'}}, /expected `alpha_pattern` to be above 0/],
    [{rank_pattern: {q_proj: 1.5}}, /expected `rank_pattern` to be a positive integer/],
    [
      {alpha_pattern: {'(?i)Q_PROJ': 8}},
      /patterns of `alpha_pattern` .* Received: "\(\?i\)Q_PROJ".* names of the modules/,
    ],
    [{rank_pattern: {'q_proj(': 8}}, /patterns of `rank_pattern` .* Received: "q_proj\("/],
    [{alpha_pattern: {'layers.0.attn.c_attn': 8}}, /`alpha_pattern` to match .* Received: "layers.0.attn.c_attn"/],
    [{r: 4}, /q_proj" has rank 2, which is 4 by r and rank_pattern/],
    [{rank_pattern: {q_proj: 3}}, /q_proj" has rank 2, which is 3 by r and rank_pattern/],
    [{target_modules: ['q_proj']}, /v_proj" is not selected by target_modules/],
    [{target_modules: '.*\\.q_proj'}, /v_proj" is not selected by target_modules/],
    [{target_modules: 5}, /expected `target_modules` to be null, a string or a list/],
    [{exclude_modules: ['v_proj']}, /v_proj" is not selected by target_modules, exclude_modules/],
    [{exclude_modules: '.*v_proj'}, /v_proj" is not selected by target_modules, exclude_modules/],
    [{layers_to_transform: 0}, /layers\.1\..* is not selected by .* layers_to_transform/],
    [{layers_to_transform: ['0']}, /expected `layers_to_transform` to be null, a number or a list/],
    [{layers_to_transform: [0, 1], layers_pattern: 'h'}, /is not selected by .* layers_pattern/],
  ])('adapters of another kind: %j', async (config, message) => {
    const error: unknown = await backbone.importPeftAdapter(edited('usual', config as Config)).catch(e => e as unknown);
    expect(error).toBeInstanceOf(ValueError);
    expect((error as Error).message).toMatch(message);
    expect(backbone.loraEnabled).toBe(false);
  });

  test('tensors of one module under two names', async () => {
    const twice = (module: string) => (module.includes('.1.') ? module.replace('model.layers.1', 'layers.0') : module);
    await expect(backbone.importPeftAdapter(edited('usual', {}, twice))).rejects.toThrow(
      /has a second name for a module/,
    );
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

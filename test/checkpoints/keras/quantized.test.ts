/** Weights that Keras quantized (make_keras_file_fixtures.py): values bit for bit, outputs as of the dequantized model. */
import {rmSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3Backbone, Gemma3CausalLM, useBackend, ValueError} from '../../../src';
import {type Json} from '../../../src/base/json';
import {withoutQuantization} from '../../../src/checkpoints/keras/quantized_policies';
import {kerasPaths} from '../../../src/checkpoints/model_paths';
import {openCheckpoint} from '../../../src/checkpoints/open_checkpoint';
import {variableOf} from '../../../src/checkpoints/stored_weights';
import {MemoryPreset, MemorySource} from '../../../src/public/files';
import {floatsOf, kerasExpected, kerasFile, quantizedPreset, temporaryFolder} from '../../support/keras_files';
import {take} from '../../support/numbers';
import {run} from '../../cli/run';

const {inputs, cases} = kerasExpected();
const NAMES = [
  'int8',
  'int4',
  'int4_channels',
  'int4_blocks',
  'int8_bfloat16',
  'int4_bfloat16',
  'int8_vision',
  'int4_vision',
  'mixed',
];
const inputsOf = (name: string) => inputs[name.endsWith('vision') ? 'vision' : 'text'] as never;

/** `saveWeights` of a file in memory, with its name. */
const source = (name: string) => new MemorySource(name, kerasFile(name));

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

/** The largest difference, divided by the largest value. */
function difference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  const largest = Array.from(expected).reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  return Array.from(expected).reduce((max, value, i) => Math.max(max, Math.abs(value - actual[i]!)), 0) / largest;
}

async function logitsOf(backbone: Gemma3Backbone, hidden: tf.Tensor): Promise<number[]> {
  return take(tf.tidy(() => backbone.tokenEmbedding.call(hidden, {reverse: true}) as tf.Tensor));
}

describe.each(NAMES)('%s', name => {
  const expected = cases[name]!;

  test("values are Keras' own, bit for bit", async () => {
    const backbone = await Gemma3Backbone.fromPreset(await quantizedPreset(name), {loadWeights: false});
    const checkpoint = await openCheckpoint(await quantizedPreset(name));
    const stored = await checkpoint.weights();
    const different: string[] = [];
    const paths = [...kerasPaths(backbone)];
    for (const [path, weight] of paths) {
      const wanted = floatsOf(expected.values[path]!);
      const out = new Float32Array(wanted.length);
      // In two pieces, the second of which begins inside a row and a byte.
      const cut = wanted.length > 8 ? 5 : wanted.length;
      const stream = variableOf(stored, path, weight)!.stream();
      await stream.readFloat32(0, out.subarray(0, cut));
      await stream.readFloat32(cut, out.subarray(cut));
      const bits = (values: Float32Array) => Buffer.from(values.buffer).toString('hex');
      if (bits(out) !== bits(wanted)) different.push(path);
    }
    expect(different).toEqual([]);
    expect(paths.map(([path]) => path).sort()).toEqual(Object.keys(expected.values).sort());
    await stored.close();
    backbone.dispose();
  });

  test('outputs and logits are those of Keras with the dequantized weights', async () => {
    const backbone = await Gemma3Backbone.fromPreset(await quantizedPreset(name), {dtype: 'float32'});
    const hidden = backbone.predict(inputsOf(name)) as tf.Tensor;
    expect(difference(await logitsOf(backbone, hidden), expected.logits!)).toBeLessThan(1e-4);
    expect(difference(await take(hidden), expected.output!)).toBeLessThan(1e-4);
    backbone.dispose();
  });

  test('other dtypes at rest', async () => {
    for (const [dtype, tolerance] of [
      ['bfloat16', 0.06],
      ['int8', 0.2],
      ['int4', 2],
    ] as const) {
      const backbone = await Gemma3Backbone.fromPreset(await quantizedPreset(name), {dtype});
      expect(backbone.dtypePolicy.name).toBe(dtype);
      const hidden = backbone.predict(inputsOf(name)) as tf.Tensor;
      expect(difference(await take(hidden), expected.output!)).toBeLessThan(tolerance);
      backbone.dispose();
    }
  });

  test('is inspected and converted', async () => {
    const folder = temporaryFolder((await quantizedPreset(name)).files);
    try {
      const {code, stdout, stderr} = await run(['inspect', folder, '--json']);
      expect({code, stderr}).toEqual({code: 0, stderr: ''});
      const facts = JSON.parse(stdout) as {problem: unknown; variables: {path: string; dtype: string}[]};
      expect(facts.problem).toBeNull();
      expect(facts.variables.map(({path}) => path).sort()).toEqual(Object.keys(expected.values).sort());
      const found = new Set(facts.variables.map(({dtype}) => dtype).filter(dtype => dtype.startsWith('int')));
      expect([...found].sort()).toEqual(name === 'mixed' ? ['int4', 'int8'] : [name.slice(0, 4)]);
      const converted = new MemoryPreset();
      await convertPreset(folder, converted, {to: 'keras', dtype: 'float32'});
      const lm = await Gemma3CausalLM.fromPreset(converted, {preprocessor: null});
      const hidden = lm.backbone.predict(inputsOf(name)) as tf.Tensor;
      expect(difference(await take(hidden), expected.output!)).toBeLessThan(1e-4);
      lm.dispose();
    } finally {
      rmSync(folder, {recursive: true});
    }
  });
});

test('the dtype is by default that of the model before it was quantized', async () => {
  // KerasHub's files do not say it. They become float32 there, too.
  const backbone = await Gemma3Backbone.fromPreset(await quantizedPreset('int4_bfloat16'));
  expect(backbone.config.dtype).toBe('float32');
  backbone.dispose();
  const policy = (class_name: string, config: Json) => ({module: 'keras.dtype_policies', class_name, config});
  const plain = (name: string) => ({
    dtype: {module: 'keras', class_name: 'DTypePolicy', config: {name}, registered_name: null},
  });
  const int8 = policy('QuantizedDTypePolicy', {mode: 'int8', source_name: 'bfloat16'});
  for (const [dtype, name] of [
    [int8, 'bfloat16'],
    ['int8_from_mixed_bfloat16', 'mixed_bfloat16'],
    ['int4/128_from_float16', 'float16'],
    ['gptq/4/-1_from_bfloat16', 'bfloat16'],
    [policy('GPTQDTypePolicy', {mode: 'gptq/4/128', source_name: null}), 'float32'],
    [policy('DTypePolicyMap', {default_policy: 'bfloat16', policy_map: {a: 'float32'}}), 'bfloat16'],
    [policy('DTypePolicyMap', {default_policy: null, policy_map: {a: int8}}), 'bfloat16'],
    [policy('DTypePolicyMap', {default_policy: null, policy_map: {}}), 'float32'],
  ] as const) {
    expect(withoutQuantization({a: [{dtype: dtype as Json}]})).toEqual({a: [plain(name)]});
  }
  for (const dtype of ['int8', 'bfloat16', policy('DTypePolicy', {name: 'int8'})] as Json[]) {
    expect(withoutQuantization({dtype})).toEqual({dtype});
  }
});

test('loadWeights of a quantized file of a task', async () => {
  const lm = await Gemma3CausalLM.fromPreset(await quantizedPreset('int4_blocks'), {
    loadWeights: false,
    preprocessor: null,
  });
  await lm.loadWeights(source('int4_blocks.weights.h5'));
  const hidden = lm.backbone.predict(inputsOf('int4_blocks')) as tf.Tensor;
  expect(difference(await take(hidden), cases.int4_blocks!.output!)).toBeLessThan(1e-4);
  lm.dispose();
});

test.each(['float8', 'GPTQ', 'AWQ'])('%s is refused by name, and listed', async mode => {
  const lm = await Gemma3CausalLM.fromPreset(await quantizedPreset('int8'), {preprocessor: null});
  const weights = source(`${mode.toLowerCase()}.weights.h5`);
  const refusal = new RegExp(`vars/0" in .* was quantized by Keras as ${mode}, which is not read: load the model in`);
  await expect(Gemma3Backbone.fromPreset(await quantizedPreset('int8'), {weights})).rejects.toThrow(refusal);
  await expect(lm.backbone.loadWeights(source(`${mode.toLowerCase()}.weights.h5`))).rejects.toThrow(ValueError);
  lm.dispose();
});

test('numbers of blocks that do not exist are refused', async () => {
  const preset = await quantizedPreset('int4_blocks');
  const bytes = preset.files.get('model.weights.h5')!;
  // The numbers of the nine inputs: four in a block.
  const numbers = Buffer.from(Float32Array.of(0, 0, 0, 0, 1, 1, 1, 1, 2).buffer);
  const at = Buffer.from(bytes).indexOf(numbers);
  expect(at).toBeGreaterThan(0);
  new DataView(bytes.buffer).setFloat32(at + 32, 3, true);
  await expect(Gemma3Backbone.fromPreset(preset)).rejects.toThrow(
    /numbers of blocks below 3 in ".*vars\/3"\. Received: 3/,
  );
});

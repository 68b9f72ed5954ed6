/** `gemma3 adapter`: LoRA of KerasHub and PEFT, each from the other. */
import {existsSync, mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone} from '../../src';
import {run, TINY} from './run';

const root = mkdtempSync(join(tmpdir(), 'gemma3-adapter-'));
afterAll(() => rmSync(root, {recursive: true}));
const file = join(root, 'a.lora.h5');

async function matrices(adapter: string): Promise<Record<string, number[]>> {
  const backbone = await Gemma3Backbone.fromPreset(TINY, {loadWeights: false});
  await backbone.loadLoraWeights(adapter);
  const all: Record<string, number[]> = {};
  for (const weight of backbone.trainableWeights) {
    if (weight.originalName.includes('lora')) all[weight.originalName] = Array.from(await weight.read().data());
  }
  backbone.dispose();
  return all;
}

beforeAll(async () => {
  const backbone = await Gemma3Backbone.fromPreset(TINY, {loadWeights: false});
  backbone.enableLora(2, {targetLayerNames: ['query', 'value', 'ffw_linear']});
  tf.tidy(() => {
    backbone.trainableWeights.forEach((weight, i) =>
      weight.write(tf.randomNormal(weight.shape as number[], 0, 0.5, 'float32', i + 1)),
    );
  });
  await backbone.saveLoraWeights(file);
  backbone.dispose();
});

test('to PEFT and back', async () => {
  const [folder, back] = [join(root, 'peft'), join(root, 'back.lora.h5')];
  const before = tf.memory().numTensors;
  const there = await run(['adapter', file, folder, '--to', 'peft', '--preset', TINY, '--base-model', 'a/b', '--json']);
  expect(there).toMatchObject({code: 0, stderr: ''});
  expect(JSON.parse(there.stdout)).toMatchObject({out: folder, to: 'peft', parameters: expect.any(Number)});
  expect(existsSync(join(folder, 'adapter_model.safetensors'))).toBe(true);
  expect((await run(['adapter', folder, back, '--to', 'keras', '--preset', TINY])).stdout).toMatch(/LoRA as keras, /);
  expect(tf.memory().numTensors).toBe(before);
  const [old, now] = [await matrices(file), await matrices(back)];
  expect(Object.keys(old).length).toBeGreaterThan(30);
  expect(now).toEqual(old);
});

test('to GGUF and back, from both others', async () => {
  const [folder, there, again] = [join(root, 'peft-2'), join(root, 'a.gguf'), join(root, 'b.gguf')];
  for (const [from, to, format] of [
    [file, there, 'gguf'],
    [there, folder, 'peft'],
    [folder, again, 'gguf'],
  ] as const) {
    const {code, stderr} = await run(['adapter', from, to, '--to', format, '--preset', TINY]);
    expect({code, stderr}).toEqual({code: 0, stderr: ''});
  }
  const before = await matrices(file);
  for (const one of [there, again]) {
    const after = await matrices(one);
    expect(Object.keys(after)).toEqual(Object.keys(before));
    for (const [name, values] of Object.entries(before)) expect(after[name]!).toBeAllClose(values, {atol: 1e-6});
  }
});

test('refuses what has no effect, and what would be replaced', async () => {
  const other = await run([
    'adapter',
    file,
    join(root, 'x.lora.h5'),
    '--to',
    'keras',
    '--preset',
    TINY,
    '--base-model',
    'a',
  ]);
  expect(other).toMatchObject({code: 2, stderr: expect.stringContaining("'--base-model' has no effect")});
  const existing = await run(['adapter', file, file, '--to', 'keras', '--preset', TINY]);
  expect(existing).toMatchObject({code: 1, stderr: expect.stringContaining('which exists. Use --force')});
});

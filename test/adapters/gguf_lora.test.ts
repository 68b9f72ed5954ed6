/** LoRA adapters of llama.cpp. test/reference/check_llama_cpp.mjs loads such files with llama.cpp itself. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone} from '../../src';
import {MemorySource} from '../../src/base/byte_source';
import {readGguf} from '../../src/formats/gguf';
import {readSafetensors} from '../../src/formats/safetensors';
import {MemoryFile, MemoryPreset} from '../../src/public/files';
import {fixture, fixtureBytes} from '../support/fixtures';

const PRESET = fixture('gguf/text');

/** A model with LoRA whose second matrices are not zero. */
async function adapted(targets: (string | RegExp)[]): Promise<Gemma3Backbone> {
  const backbone = await Gemma3Backbone.fromPreset(PRESET);
  backbone.enableLora(2, {targetLayerNames: targets, alpha: 3, seed: 5});
  for (const [i, weight] of backbone.trainableWeights.entries()) {
    weight.write(tf.randomNormal(weight.shape as number[], 0, 0.1, 'float32', i + 1));
  }
  return backbone;
}

const predict = async (backbone: Gemma3Backbone): Promise<Float32Array> => {
  const inputs = {token_ids: tf.tensor2d([[2, 100, 200, 300, 7]]), padding_mask: tf.ones([1, 5])};
  const result = backbone.predict(inputs) as tf.Tensor;
  return (await result.data()) as Float32Array;
};

test('a file has the matrices of all layers, and gives the same model again', async () => {
  const backbone = await adapted(['query', 'value', 'attention_output', 'ffw_gating']);
  const file = new MemoryFile('style.gguf');
  await backbone.exportGgufAdapter(file);
  const {metadata, tensors} = await readGguf(new MemorySource('style.gguf', file.bytes));
  expect(Object.fromEntries(metadata)).toMatchObject({
    'general.architecture': 'gemma3',
    'general.type': 'adapter',
    'general.name': 'style',
    'adapter.type': 'lora',
  });
  expect(tensors.size).toBe(7 * 4 * 2);
  expect(tensors.get('blk.3.attn_q.weight.lora_a')!.shape).toEqual([4, 32]);
  expect(tensors.get('blk.3.attn_q.weight.lora_b')!.shape).toEqual([64, 4]);
  const other = await Gemma3Backbone.fromPreset(PRESET);
  await other.loadLoraWeights(file);
  expect(Array.from(await predict(other))).toBeAllClose(Array.from(await predict(backbone)), {atol: 1e-4});
  other.dispose();
  backbone.dispose();
});

test('layers that llama.cpp does not adapt, and files that are no adapters, are refused', async () => {
  const backbone = await adapted(['token_embedding']);
  await expect(backbone.exportGgufAdapter(new MemoryFile('x.gguf'))).rejects.toThrow(
    /layers that llama\.cpp can adapt\. Received: "token_embedding"/,
  );
  backbone.dispose();
  const plain = await Gemma3Backbone.fromPreset(PRESET);
  await expect(plain.exportGgufAdapter(new MemoryFile('x.gguf'))).rejects.toThrow(/no lora-enabled layers/);
  const model = new File([fixtureBytes('gguf/text.gguf') as Uint8Array<ArrayBuffer>], 'text.gguf');
  await expect(plain.loadLoraWeights(model)).rejects.toThrow(/a GGUF file without "adapter\.type"/);
  plain.dispose();
});

// === Adapters of PEFT ===

/** The model of make_peft_fixtures.py. */
const make = () =>
  new Gemma3Backbone({
    ...{vocabularySize: 32, imageSize: 8, numLayers: 2, numQueryHeads: 4, numKeyValueHeads: 2, hiddenDim: 8},
    ...{intermediateDim: 12, headDim: 4},
  });

type Tensors = Record<string, {readonly shape: readonly number[]; readonly values: readonly number[]}>;

/** Metadata and tensors of a GGUF file. */
async function contents(bytes: Uint8Array): Promise<{metadata: Record<string, unknown>; tensors: Tensors}> {
  const {metadata, tensors} = await readGguf(new MemorySource('x.gguf', bytes));
  const read = [...tensors].map(([name, {type, shape, offset, byteLength}]) => {
    expect(type.name).toBe('F32');
    const values = Array.from(new Float32Array(bytes.slice(offset, offset + byteLength).buffer));
    return [name, {shape: [...shape], values}] as const;
  });
  return {metadata: Object.fromEntries(metadata), tensors: Object.fromEntries(read)};
}

async function safetensors(bytes: Uint8Array): Promise<Tensors> {
  const {tensors} = await readSafetensors(new MemorySource('x.safetensors', bytes));
  const all: Tensors = {};
  for (const [name, {shape, readFloat32}] of tensors) {
    all[name] = {shape: [...shape], values: Array.from(await readFloat32())};
  }
  return all;
}

/** Written by `check_gguf_adapters.py --write` with the Python package `gguf`, from PEFT's adapter "usual". */
const WRITTEN = 'lora/peft/usual.gguf';

test('an adapter of PEFT has the tensors and metadata that the package gguf writes', async () => {
  const backbone = make();
  await backbone.importPeftAdapter(fixture('lora/peft/usual'));
  const file = new MemoryFile('usual.gguf');
  await backbone.exportGgufAdapter(file);
  const [ours, theirs] = [await contents(file.bytes), await contents(fixtureBytes(WRITTEN))];
  expect(ours.tensors).toEqual(theirs.tensors);
  expect(ours.metadata).toMatchObject(theirs.metadata);
  backbone.dispose();
});

test('an adapter of the package gguf is that of PEFT', async () => {
  const backbone = make();
  const file = new MemoryFile('usual.gguf');
  await file.write(fixtureBytes(WRITTEN));
  await backbone.loadLoraWeights(file);
  const folder = new MemoryPreset();
  await backbone.exportPeftAdapter(folder);
  expect(await safetensors(folder.files.get('adapter_model.safetensors')!)).toEqual(
    await safetensors(fixtureBytes('lora/peft/usual/adapter_model.safetensors')),
  );
  const config = JSON.parse(Buffer.from(folder.files.get('adapter_config.json')!).toString()) as object;
  expect(config).toMatchObject({r: 2, lora_alpha: 6, rank_pattern: {}, alpha_pattern: {}});
  backbone.dispose();
});

test.each(['usual', 'patterns', 'rslora'])('matrices of PEFT keep their ranks: %s', async name => {
  const backbone = make();
  await backbone.importPeftAdapter(fixture(`lora/peft/${name}`));
  const folder = new MemoryPreset();
  await backbone.exportPeftAdapter(folder);
  const shapes = (tensors: Tensors) =>
    Object.fromEntries(Object.entries(tensors).map(([key, {shape}]) => [key, shape]));
  const ours = await safetensors(folder.files.get('adapter_model.safetensors')!);
  expect(shapes(ours)).toEqual(shapes(await safetensors(fixtureBytes(`lora/peft/${name}/adapter_model.safetensors`))));
  backbone.dispose();
});

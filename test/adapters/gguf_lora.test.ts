/** LoRA adapters of llama.cpp. test/reference/check_llama_cpp.mjs loads such files with llama.cpp itself. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone} from '../../src';
import {MemorySource} from '../../src/base/byte_source';
import {readGguf} from '../../src/formats/gguf';
import {MemoryFile} from '../../src/public/files';
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

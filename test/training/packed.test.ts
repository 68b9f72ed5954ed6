/** LoRA over packed weights: they stay unchanged, and gradients flow through them. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, optimizers, useBackend} from '../../src';
import {PackedWeight} from '../../src/weights/packed_weight';

const TEXTS = {
  prompts: ['The capital of Peru is', 'Two and two', 'A cat'],
  responses: [' Lima.', ' are four.', ' sleeps all day.'],
};

async function train(dtype: 'float32' | 'bfloat16' | 'int8' | 'int4', steps = 6) {
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype});
  lm.backbone.enableLora(4, {seed: 1});
  const packed = lm.weights.filter(weight => weight instanceof PackedWeight);
  const bits = packed.map(({bits}) => bits);
  const optimizer = new optimizers.SGD({learningRate: 10});
  lm.compile({optimizer});
  const {history} = await lm.fit(TEXTS, {epochs: steps, batchSize: 3, seed: 1, shuffle: false});
  expect(packed.every((weight, i) => weight.bits === bits[i])).toBe(true);
  optimizer.dispose();
  lm.dispose();
  return {losses: history.loss as number[], packed: packed.length};
}

let exact: Awaited<ReturnType<typeof train>>;
beforeAll(async () => {
  await useBackend('simd');
  exact = await train('float32');
});

// bfloat16 holds the preset's values exactly. With integers the forward pass rounds activations, and the backward pass
// does not.
test.each([
  ['bfloat16', 1e-4],
  ['int8', 0.05],
  ['int4', 0.5],
] as const)('%s trains as float32 does', async (dtype, tolerance) => {
  const before = tf.memory().numTensors;
  const {losses, packed} = await train(dtype);
  expect(packed).toBeGreaterThan(0);
  expect(exact.packed).toBe(0);
  const ratios = losses.map((loss, i) => loss / exact.losses[i]!);
  expect(ratios).toBeAllClose(new Array(ratios.length).fill(1), {atol: tolerance});
  expect(losses.at(-1)!).toBeLessThan(losses[0]! * 0.99);
  expect(tf.memory().numTensors).toBe(before);
});

test('40 steps leave no tensors behind', async () => {
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int8'});
  lm.backbone.enableLora(2, {seed: 1});
  lm.compile({optimizer: 'adam'});
  const counts: number[] = [];
  const onBatchEnd = () => void counts.push(tf.memory().numTensors);
  await lm.fit(TEXTS, {epochs: 40, batchSize: 3, callbacks: {onBatchEnd}});
  expect(counts).toHaveLength(40);
  expect(new Set(counts.slice(1)).size).toBe(1);
  lm.dispose();
});

/** Loading the real model needs memory for the model, one tensor and a few buffers. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone} from '../../src';
import {REAL_PRESET} from './real_preset';

const MB = 2 ** 20;
const EMBEDDING = 262144 * 640;

test.each([
  ['bfloat16', 2],
  ['float32', 4],
] as const)('loads as %s without a second copy', async (dtype, bytes) => {
  await tf.setBackend('cpu');
  const held = () => process.memoryUsage().arrayBuffers;
  const before = held();
  let peak = 0;
  const backbone = await Gemma3Backbone.fromPreset(REAL_PRESET, {
    dtype,
    onProgress: () => {
      peak = Math.max(peak, held() - before);
    },
  });
  const weights = backbone.countParams() * bytes;
  expect(peak).toBeLessThan(weights + EMBEDDING * bytes + 64 * MB);
  // Norms are stored as float32 for any dtype: 0.1 MB in total.
  expect(held() - before).toBeLessThan(weights + 64 * MB);
  backbone.dispose();
});

/**
 * Operations without a kernel on `webgpu`: their references, of plain tfjs operations, run there, forward and backward,
 * and are compared with `cpu`.
 */
import * as tf from '@tensorflow/tfjs';
import {useBackend} from '../../src';
import {Gemma3VisionEmbedding} from '../../src/models/gemma3/parts/vision_layers';
import {Gemma3VisionAveragePooling} from '../../src/models/gemma3/parts/vision_output';
import {adamStep} from '../../src/ops/adam_step';
import {headLoss} from '../../src/ops/head_loss';
import {interleave} from '../../src/ops/interleave';
import {penalizeTokens} from '../../src/ops/penalize';
import {PackedWeight} from '../../src/weights/packed_weight';
import {normal} from '../support/random';
import {describeWebGpu, throwGpuErrors, useWebGpu} from '../support/webgpu';

/** Shapes and values of results. */
async function valuesOf(run: () => tf.Tensor[]) {
  const results = tf.tidy(run);
  const values = await Promise.all(results.map(async one => ({shape: one.shape, values: await one.data()})));
  tf.dispose(results);
  return values;
}

/** What `run` gives on a backend. */
async function on(backend: 'cpu' | 'webgpu', run: () => tf.Tensor[]) {
  await useBackend(backend);
  try {
    return await valuesOf(run);
  } finally {
    await useBackend('webgpu');
  }
}

/** The same results on both backends. */
async function same(run: () => tf.Tensor[], tolerance: {rtol?: number; atol?: number} = {rtol: 1e-5, atol: 1e-6}) {
  const expected = await on('cpu', run);
  const found = await on('webgpu', run);
  expect(found.map(({shape}) => shape)).toEqual(expected.map(({shape}) => shape));
  found.forEach(({values}, i) => expect(values).toBeAllClose(expected[i]!.values, tolerance));
}

/** y, and the gradients of a weighted sum of it for all inputs. */
function withGradients(f: (...inputs: tf.Tensor[]) => tf.Tensor, inputs: tf.Tensor[]): tf.Tensor[] {
  const y = f(...inputs);
  return [y, ...tf.grads(f)(inputs, normal(y.shape, 99))];
}

describeWebGpu('references on webgpu', () => {
  beforeAll(useWebGpu);
  afterEach(throwGpuErrors);

  test('a step of Adam', async () => {
    const attrs = {beta1: 0.9, beta2: 0.999, epsilon: 1e-7, alpha: 0.01};
    for (const shape of [[1], [3, 70], [2, 5, 7]]) {
      await same(() => {
        const [variable, gradient, momentum] = [1, 2, 3].map(seed => normal(shape, seed)) as [
          tf.Tensor,
          tf.Tensor,
          tf.Tensor,
        ];
        return adamStep({variable, gradient, momentum, velocity: tf.square(normal(shape, 4))}, attrs);
      });
    }
  });

  test('penalties on tokens', async () => {
    const rows = [
      {tokens: [0, 69, 5], losses: [0.5, 1, 0]},
      {tokens: [], losses: []},
      {tokens: [7], losses: [-2]},
    ];
    await same(() => [penalizeTokens(normal([3, 70], 1) as tf.Tensor2D, {rows, factor: 1.3})]);
  });

  test('the loss of the head, and its gradients for hidden states and table', async () => {
    const targets = () => tf.tensor1d([0, 36, 5, 5, 12], 'int32');
    for (const softCap of [null, 3]) {
      await same(() =>
        withGradients(
          (hidden, table) => headLoss(hidden as tf.Tensor2D, table as tf.Tensor2D, targets(), {softCap}),
          [normal([5, 33], 1), normal([37, 33], 2)],
        ),
      );
    }
  });

  test.each(['bfloat16', 'int8', 'int4'] as const)('the loss of a head in %s', async format => {
    const targets = () => tf.tensor1d([0, 36, 5], 'int32');
    const packed = new PackedWeight([37, 33], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, format);
    const values = await on('cpu', () => [normal([37, 33], 2)]);
    tf.tidy(() => void packed.write(tf.tensor(values[0]!.values.slice(), [37, 33])));
    const [table] = await on('webgpu', () => [packed.read()]);
    const run = (head: () => tf.Tensor2D | PackedWeight) => () =>
      withGradients(hidden => headLoss(hidden as tf.Tensor2D, head(), targets()), [normal([3, 33], 1)]);
    const expected = await on(
      'cpu',
      run(() => tf.tensor2d(table!.values.slice(), [37, 33])),
    );
    const found = await on(
      'webgpu',
      run(() => packed),
    );
    found.forEach((one, i) => expect(one.values).toBeAllClose(expected[i]!.values, {rtol: 1e-5, atol: 1e-6}));
    packed.dispose();
  });

  test('embeddings of images in a text', async () => {
    const indices = () => tf.tensor2d([1, 4, 0, 2, 3, 1], [2, 3], 'int32');
    await same(() =>
      withGradients(
        (text, images) => interleave(text as tf.Tensor3D, images as tf.Tensor2D, indices()),
        [normal([2, 6, 10], 1), normal([6, 10], 2)],
      ),
    );
  });

  test('patches of images, and means over squares of them', async () => {
    const sizes = {imageSize: 15, patchSize: 3};
    await same(() => {
      const layer = new Gemma3VisionEmbedding({hiddenDim: 10, ...sizes});
      layer.build([null, 15, 15, 3]);
      layer.setWeights(layer.weights.map((weight, i) => normal(weight.shape as number[], i)));
      const results = withGradients(x => layer.call(x) as tf.Tensor, [normal([2, 15, 15, 3], 9)]);
      layer.dispose();
      return results;
    });
    await same(() => {
      const layer = new Gemma3VisionAveragePooling({...sizes, poolSize: 2});
      return withGradients(x => layer.call(x), [normal([2, 25, 10], 5)]);
    });
  });
});

/** LoRA of single layers: the numbers of Keras, kernels stored in every format, configurations, errors. */
import * as tf from '@tensorflow/tfjs';
import {useBackend} from '../../src';
import {ValueError} from '../../src/base/errors';
import {Embedding} from '../../src/layers/embedding';
import {loraEquations, type LoraLayer} from '../../src/layers/lora';
import {Dense, EinsumDense, ReversibleEmbedding} from '../../src/public/layers';
import {onEachBackend} from '../support/backends';
import {fixtureJson} from '../support/fixtures';
import {normal} from '../support/random';

interface Stored {
  shape: number[];
  values: number[];
}

/** Results of Keras, from make_lora_fixtures.py. */
interface Case {
  name: string;
  args: object;
  rank: number;
  alpha: number;
  config: object;
  x: Stored & {dtype: 'int32' | 'float32'};
  weights: Record<string, Stored>;
  order: string[];
  trainable: string[];
  reverse?: boolean;
  y: Stored;
  gradients: Record<string, Stored>;
}
const CASES = fixtureJson<Case[]>('lora/layers.json');
const CLASSES = {Dense, EinsumDense, Embedding, ReversibleEmbedding} as unknown as Record<
  string,
  new (args: object) => LoraLayer
>;

beforeAll(async () => {
  await useBackend('simd', {threads: 2});
});

const stored = ({shape, values}: Stored, dtype?: 'int32') => tf.tensor(values, shape, dtype);
const inputOf = ({x}: Case) => stored(x, x.dtype === 'int32' ? 'int32' : undefined);
const make = ({name, args}: Case, more: object = {}) =>
  new CLASSES[/^\w+/.exec(name)![0]]!({...args, name: 'layer', ...more});
const nameOf = ({originalName}: tf.LayerVariable) => originalName.split('/').at(-1)!;

function layerOf(c: Case, more: object = {}): LoraLayer {
  const layer = make(c, more);
  layer.build(c.x.shape);
  layer.enableLora(c.rank, {alpha: c.alpha});
  tf.tidy(() => layer.weights.forEach(weight => weight.write(stored(c.weights[nameOf(weight)]!))));
  return layer;
}
const run = (layer: LoraLayer, x: tf.Tensor, {reverse}: Case) => layer.call(x, reverse ? {reverse} : {}) as tf.Tensor;

onEachBackend(({formats}) => {
  describe.each(CASES.map(c => [c.name, c] as const))('%s', (_, c) => {
    test('outputs, weights and gradients match Keras', () => {
      const before = tf.memory().numTensors;
      tf.tidy(() => {
        const layer = layerOf(c);
        expect(layer.weights.map(nameOf)).toEqual(c.order);
        expect(layer.trainableWeights.map(nameOf)).toEqual(c.trainable);
        expect(layer.weights.map(({shape}) => shape)).toEqual(c.order.map(name => c.weights[name]!.shape));
        const x = inputOf(c);
        const tensors = tf.memory().numTensors;
        const y = run(layer, x, c);
        expect(tf.memory().numTensors).toBe(tensors + 1);
        expect(y).toBeAllClose(stored(c.y));
        const loss = () => tf.sum(tf.square(run(layer, x, c))) as tf.Scalar;
        const weights = layer.trainableWeights.filter(weight => c.gradients[nameOf(weight)]);
        const {grads} = tf.variableGrads(
          loss,
          weights.map(weight => weight.read() as tf.Variable),
        );
        for (const weight of weights) {
          expect(grads[(weight.read() as tf.Variable).name]!).toBeAllClose(stored(c.gradients[nameOf(weight)]!), 1e-4);
        }
        if (c.gradients.x)
          expect(tf.grad(given => tf.sum(tf.square(run(layer, given, c))))(x)).toBeAllClose(
            stored(c.gradients.x),
            1e-4,
          );
        layer.dispose();
      });
      expect(tf.memory().numTensors).toBe(before);
    });

    test.each(formats)('over a kernel stored as %s, merging gives the same as two products', dtype => {
      tf.tidy(() => {
        const layer = layerOf(c, {dtype});
        const plain = make(c);
        plain.build(c.x.shape);
        // The stored values plus the product of both matrices, which must give the same result as the two products.
        const {a, b} = layer.loraMatrices!;
        const delta = tf.reshape(
          tf.mul(tf.matMul(tf.reshape(a.read(), [-1, c.rank]), b.read() as tf.Tensor2D), c.alpha / c.rank),
          layer.adapted.shape as number[],
        );
        plain.weights.forEach((weight, i) => weight.write(tf.clone(layer.savedWeights[i]!.read())));
        plain.adapted.write(tf.add(layer.adapted.read(), delta));
        const x = inputOf(c);
        // Integer kernels also round x.
        expect(run(layer, x, c)).toBeAllClose(run(plain, x, c), dtype === 'bfloat16' ? 1e-5 : 5e-3);
        layer.dispose();
        plain.dispose();
      });
    });

    test('its configuration recreates it', () => {
      const layer = layerOf(c);
      const config = layer.getConfig();
      expect(config).toMatchObject({
        loraRank: c.config['lora_rank' as never],
        loraAlpha: c.config['lora_alpha' as never],
      });
      const again = make(c, JSON.parse(JSON.stringify(config)) as object);
      again.build(c.x.shape);
      expect(again.loraEnabled).toBe(true);
      expect([again.loraRank, again.loraAlpha]).toEqual([c.rank, c.alpha]);
      expect(again.weights.map(nameOf)).toEqual(c.order);
      expect(again.adapted.trainable).toBe(false);
      layer.dispose();
      again.dispose();
    });
  });
});

test('the last axis of the kernel keeps its place, whether x has it too or not', () => {
  expect(loraEquations('btd,ndh->btnh')).toEqual({first: 'btd,ndr->btnr', second: 'btnr,rh->btnh', order: 'ab'});
  expect(loraEquations('abc,dc->abd')).toEqual({first: 'abc,rc->abr', second: 'abr,dr->abd', order: 'ba'});
  expect(loraEquations('ab...,bc->ac...').second).toBe('ar...,rc->ac...');
  tf.tidy(() => {
    // The kernel is not a plain matrix: its last axis is also in x and in the result.
    const layer = new EinsumDense({equation: 'abc,bc->ac', outputShape: 3});
    layer.build([2, 4, 3]);
    const x = normal([2, 4, 3], 1);
    layer.kernel.write(tf.zeros([4, 3]));
    layer.enableLora(2, {bInitializer: 'glorot_uniform', alpha: 6});
    const delta = tf.mul(tf.matMul(layer.loraKernelA!.read(), layer.loraKernelB!.read()), 3);
    expect(layer.call(x)).toBeAllClose(tf.sum(tf.mul(x, delta), 1));
    layer.dispose();
  });
});

test('a fresh LoRA changes nothing: A is he_uniform, B is zero', () => {
  tf.tidy(() => {
    const layer = new EinsumDense({equation: 'btd,ndh->btnh', outputShape: [null, 2, 3]});
    layer.build([1, 3, 400]);
    const x = normal([1, 3, 400], 1);
    const y = layer.call(x);
    layer.enableLora(4);
    expect(layer.call(x)).toBeAllClose(y, 1e-7);
    const a = layer.loraKernelA!.read();
    const limit = Math.sqrt(6 / (2 * 400));
    expect(tf.max(tf.abs(a)).dataSync()[0]).toBeLessThanOrEqual(limit);
    expect(tf.max(tf.abs(a)).dataSync()[0]).toBeGreaterThan(0.9 * limit);
    layer.dispose();
  });
});

test('merging by hand and turning off leaves the layer without matrices', () => {
  const before = tf.memory().numTensors;
  const layer = new Dense({units: 3, loraRank: 2, loraAlpha: 4});
  layer.build([null, 5]);
  expect(layer.countParams()).toBe(5 * 3 + 3 + 5 * 2 + 2 * 3);
  expect(layer.savedWeights.map(nameOf)).toEqual(['kernel', 'bias']);
  layer.disableLora();
  expect(layer.countParams()).toBe(5 * 3 + 3);
  expect(layer.getConfig()).not.toHaveProperty('loraRank');
  layer.enableLora(1);
  expect(layer.loraKernelA!.shape).toEqual([5, 1]);
  layer.dispose();
  expect(tf.memory().numTensors).toBe(before);
});

test('refuses what Keras refuses, and meaningless arguments', () => {
  const layer = new Dense({units: 3});
  expect(() => layer.enableLora(2)).toThrow("Cannot enable lora on a layer that isn't yet built.");
  layer.build([null, 5]);
  const before = tf.memory().numTensors;
  expect(() => layer.enableLora(0)).toThrow(/`rank` to be a positive integer. Received: rank=0/);
  expect(() => layer.enableLora(2, {alpha: -1})).toThrow(/`alpha` to be null or above 0/);
  expect(() => layer.enableLora(2, {lora_alpha: 1} as never)).toThrow(/no argument "lora_alpha"/);
  expect(() => layer.enableLora(2, {bInitializer: 'nope'})).toThrow(/initializer name/);
  expect(tf.memory().numTensors).toBe(before);
  expect(layer.loraEnabled).toBe(false);
  layer.enableLora(2);
  expect(() => layer.enableLora(2)).toThrow('lora is already enabled. This can only be done once per layer.');
  expect(() => new Dense({units: 3, loraAlpha: 2})).toThrow(ValueError);
  layer.dispose();
});

/** The vision encoder and its layers, against KerasHub and against plain tfjs operations. */
import * as tf from '@tensorflow/tfjs';
import {kerasPaths} from '../../../src/checkpoints/model_paths';
import {Gemma3InterleaveEmbeddings} from '../../../src/models/gemma3/gemma3_layers';
import {Gemma3Backbone} from '../../../src/models/gemma3/gemma3_backbone';
import {
  Gemma3VisionEncoder,
  type Gemma3VisionEncoderBlock,
  type Gemma3VisionEncoderArgs,
} from '../../../src/models/gemma3/gemma3_vision_encoder';
import {PatchConv2D} from '../../../src/models/gemma3/parts/patch_conv';
import {Gemma3VisionAttention, visionAttention} from '../../../src/models/gemma3/parts/vision_layers';
import {Gemma3VisionAveragePooling, Gemma3VisionOutput} from '../../../src/models/gemma3/parts/vision_output';
import {interleave} from '../../../src/ops/interleave';
import {PackedWeight} from '../../../src/weights/packed_weight';
import {disposeAfterEach, onEveryBackend} from '../../support/backends';
import {expectSameGradients} from '../../support/gradients';
import {CASES, stored} from '../../support/vision_fixtures';

type EncoderCase = (typeof CASES.encoders)[number];

const camel = (key: string) => key.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
const argsOf = ({config}: EncoderCase) =>
  Object.fromEntries(
    Object.entries(config).map(([key, value]) => [camel(key), value]),
  ) as unknown as Gemma3VisionEncoderArgs;

/** The encoder of a case, with the case's weights, which are stored by their paths in Keras. */
function load(c: EncoderCase, args: Partial<Gemma3VisionEncoderArgs> = {}): Gemma3VisionEncoder {
  const encoder = new Gemma3VisionEncoder({...argsOf(c), ...args});
  const paths = [...kerasPaths(encoder)];
  expect(paths.map(([path]) => path).sort()).toEqual(Object.keys(c.weights).sort());
  tf.tidy(() => {
    for (const [path, weight] of paths) {
      const value = stored(c.weights[path]!);
      expect([path, weight.shape]).toEqual([path, value.shape]);
      weight.write(value);
    }
  });
  return encoder;
}

const SMALL = CASES.encoders[0]!;
const randomImages = (samples: number, images: number, size = 8) =>
  tf.randomUniform([samples, images, size, size, 3], -1, 1, 'float32', 7);

onEveryBackend(() => {
  disposeAfterEach();

  test.each(CASES.encoders.map(c => [c.name, c] as const))(
    'the encoder returns what KerasHub returns: %s',
    async (_, c) => {
      const encoder = load(c);
      for (const run of c.runs) {
        const [images, output] = [stored(run.images), stored(run.output)];
        const before = tf.memory().numTensors;
        const y = encoder.call(images);
        expect(await y.data()).toBeAllClose(await output.data(), {atol: 1e-5});
        y.dispose();
        expect(tf.memory().numTensors).toBe(before);
        expect(encoder.numVisionTokensPerImage).toBe(output.shape[1]);
        expect(encoder.computeOutputShape(images.shape)).toEqual(output.shape);
      }
      encoder.dispose();
    },
  );

  test.each(CASES.interleave.map(c => [c.name, c] as const))(
    'Gemma3InterleaveEmbeddings returns what KerasHub returns: %s',
    async (_, c) => {
      const layer = new Gemma3InterleaveEmbeddings({numVisionTokensPerImage: c.tokens});
      const [images, text, output] = [stored(c.images), stored(c.text), stored(c.output)];
      const indices = tf.tensor(c.indices.flat(), [text.shape[0]!, c.indices[0]!.length], 'int32');
      const textBefore = await text.array();
      const before = tf.memory().numTensors;
      const y = layer.call([images, text, indices]);
      expect(await y.data()).toBeAllClose(await output.data(), {atol: 0});
      expect(await text.array()).toEqual(textBefore);
      y.dispose();
      expect(tf.memory().numTensors).toBe(before);
      expect(text.isDisposed).toBe(false);
      expect(layer.computeOutputShape([images.shape, text.shape, indices.shape])).toEqual(text.shape);
    },
  );
});

describe('Gemma3VisionEncoder', () => {
  test('has the paths of Keras inside a model', () => {
    const encoder = new Gemma3VisionEncoder(argsOf(SMALL));
    const images = tf.input({shape: [null, 8, 8, 3], name: 'images'});
    const output = encoder.apply(images) as tf.SymbolicTensor;
    expect(output.shape).toEqual([null, 4, 12]);
    const model = tf.model({inputs: images, outputs: output});
    const paths = [...kerasPaths(model)].map(([path]) => path);
    expect(paths).toContain(
      'layers/gemma3_vision_encoder/layers/gemma3_vision_encoder_block/' +
        'resblocks/gemma3_vision_encoder_layer_1/attn/query_proj/vars/0',
    );
    expect(new Set(paths)).toEqual(
      new Set(Object.keys(SMALL.weights).map(path => `layers/gemma3_vision_encoder/${path}`)),
    );
  });

  test('predicts, trains and is saved inside a model', async () => {
    const encoder = load(SMALL, {name: 'vision'});
    const images = tf.input({shape: [null, 8, 8, 3], name: 'images'});
    const model = tf.model({inputs: images, outputs: encoder.apply(images) as tf.SymbolicTensor});
    const run = SMALL.runs[1]!;
    const [pixels, output] = [stored(run.images), stored(run.output)];
    expect(model.predict(pixels) as tf.Tensor).toBeAllClose(output, {atol: 1e-5});

    let artifacts: tf.io.ModelArtifacts | undefined;
    await model.save(
      tf.io.withSaveHandler(async saved => {
        artifacts = saved;
        return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
      }),
    );
    const copy = await tf.loadLayersModel(tf.io.fromMemory(artifacts!));
    expect(copy.predict(pixels) as tf.Tensor).toBeAllClose(output, {atol: 1e-5});

    // A key bias shifts all logits of a query equally, which softmax ignores: its gradient is only rounding error.
    const moving = [...kerasPaths(encoder)].filter(([path]) => !path.endsWith('key_proj/vars/1'));
    const before = moving.map(([, weight]) => weight.read().arraySync());
    model.compile({optimizer: tf.train.sgd(0.01), loss: 'meanSquaredError'});
    const target = tf.zerosLike(output);
    const first = (await model.trainOnBatch(pixels, target)) as number;
    const tensors = tf.memory().numTensors;
    expect(await model.trainOnBatch(pixels, target)).toBeLessThan(first);
    expect(tf.memory().numTensors).toBe(tensors);
    moving.forEach(([path, weight], i) => expect([path, weight.read().arraySync()]).not.toEqual([path, before[i]]));
  });

  test('is a model as soon as it is constructed, as in Keras', async () => {
    const encoder = load(SMALL, {name: 'vision'});
    const run = SMALL.runs[1]!;
    const [images, output] = [stored(run.images), stored(run.output)];
    expect(encoder).toBeInstanceOf(tf.LayersModel);
    expect(encoder.built).toBe(true);
    expect(encoder.inputNames).toEqual(['images']);
    expect(encoder.inputs[0]!.shape).toEqual([null, null, 8, 8, 3]);
    expect(encoder.outputs[0]!.shape).toEqual([null, 4, 12]);
    expect(encoder.layers.map(({name}) => name)).toEqual([
      'images',
      'image_encoder',
      'pooling',
      'vision_output_encoder',
    ]);
    expect(encoder.predict(images)).toBeAllClose(output, {atol: 1e-5});
    expect(encoder.predict({images: images.arraySync() as number[][][][][]})).toBeAllClose(output, {atol: 1e-5});
    expect(() => encoder.predict({image: images})).toThrow('Expected inputs images. Received: image.');
    expect(() => encoder.predict(tf.zeros([1, 1, 9, 9, 3]))).toThrow('(batch, any, 8, 8, 3). Received: shape [1,1,9,9');

    const lines: string[] = [];
    encoder.summary(undefined, undefined, line => lines.push(String(line)));
    expect(lines.join('\n')).toMatch(/image_encoder \(Gemma3Vision.*pooling \(Gemma3Vision.*vision_output_encoder/s);
    expect(lines.join('\n')).toContain(`Total params: ${encoder.countParams()}`);

    // A part of it, as a model of its own.
    const patches = tf.model({
      inputs: encoder.inputs,
      outputs: encoder.getLayer('pooling').output as tf.SymbolicTensor,
    });
    const block = encoder.getLayer('image_encoder') as Gemma3VisionEncoderBlock;
    const pooling = encoder.getLayer('pooling') as Gemma3VisionAveragePooling;
    expect(patches.predict(images) as tf.Tensor).toBeAllClose(pooling.call(block.call(images)), {atol: 1e-6});

    const artifacts: tf.io.ModelArtifacts[] = [];
    await encoder.save(
      tf.io.withSaveHandler(async saved => {
        artifacts.push(saved);
        return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
      }),
    );
    const copy = await tf.loadLayersModel(tf.io.fromMemory(artifacts[0]!));
    expect(copy).toBeInstanceOf(Gemma3VisionEncoder);
    expect(copy.getConfig()).toEqual(encoder.getConfig());
    expect(copy.predict(images) as tf.Tensor).toBeAllClose(output, {atol: 1e-5});
    expect(Gemma3VisionEncoder.fromConfig(encoder.getConfig()).getConfig()).toEqual(encoder.getConfig());
  });

  test('is trained alone, as any model of tfjs', async () => {
    const encoder = load(SMALL);
    const images = randomImages(2, 1);
    const target = tf.zeros([2, 4, 12]);
    encoder.compile({optimizer: tf.train.sgd(0.01), loss: 'meanSquaredError'});
    const {history} = await encoder.fit(images, target, {epochs: 3, verbose: 0});
    expect((history.loss as number[])[2]).toBeLessThan((history.loss as number[])[0]!);
    encoder.trainable = false;
    await expect(encoder.fit(images, target, {epochs: 1, verbose: 0})).rejects.toThrow('weights are all frozen');
  });

  test('is named as Keras names models', () => {
    const names = [1, 2].map(() => new Gemma3VisionEncoder(argsOf(SMALL)).name);
    expect(names[0]).toMatch(/^gemma3_vision_encoder(_\d+)?$/);
    expect(names[1]).not.toBe(names[0]);
    const {weights} = new Gemma3VisionEncoder({...argsOf(SMALL), name: 'vision'});
    expect(weights[0]!.originalName).toBe('vision/image_encoder/encoder_layer_norm/gamma');
  });

  test('is freed with its last reference', () => {
    const before = tf.memory().numTensors;
    const backbone = () =>
      new Gemma3Backbone({
        ...{vocabularySize: 9, numLayers: 1, numQueryHeads: 1, numKeyValueHeads: 1, hiddenDim: 12},
        ...{intermediateDim: 8, headDim: 4, imageSize: 8, visionEncoder: encoder},
      });
    let encoder = load(SMALL);
    const [first, second] = [backbone(), backbone()];
    first.dispose();
    tf.tidy(() => void encoder.predict(tf.zeros([1, 1, 8, 8, 3])));
    second.dispose();
    expect(tf.memory().numTensors).toBe(before);
    encoder.dispose();

    // The user's own reference, released before the model's.
    encoder = load(SMALL);
    const third = backbone();
    encoder.dispose();
    tf.tidy(() => void encoder.predict(tf.zeros([1, 1, 8, 8, 3])));
    third.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('has as many parameters as the published encoder, before their values exist', () => {
    const encoder = new Gemma3VisionEncoder({
      imageSize: 896,
      patchSize: 14,
      numHeads: 16,
      hiddenDim: 1152,
      numLayers: 27,
      intermediateDim: 4304,
      outputDim: 2560,
      poolSize: 4,
    });
    // gemma3_4b minus gemma3_4b_text, as counted in KerasHub's registry.
    expect(encoder.countParams()).toBe(4_299_915_632 - 3_880_099_328);
    expect(encoder.numVisionTokensPerImage).toBe(256);
    expect(encoder.computeOutputShape([null, null, 896, 896, 3])).toEqual([null, 256, 2560]);
  });

  test('trains on a batch without images, which does not depend on the encoder', () => {
    const encoder = load(SMALL);
    const scale = tf.variable(tf.scalar(2));
    const {grads} = tf.variableGrads(() => {
      const y = encoder.call(tf.zeros([2, 0, 8, 8, 3]));
      expect(y.shape).toEqual([0, 4, 12]);
      return tf.square(scale) as tf.Scalar;
    }, [scale]);
    expect(grads[scale.name]!.arraySync()).toBe(4);
  });

  test('has the gradients of finite differences', () => {
    const encoder = load(SMALL);
    const images = randomImages(1, 2);
    const loss = () => tf.mean(tf.square(encoder.call(images))) as tf.Scalar;
    const variables = encoder.weights.map(weight => weight.read() as tf.Variable);
    const {grads} = tf.variableGrads(loss, variables);
    for (const [i, variable] of variables.entries()) {
      const direction = tf.randomNormal(variable.shape, 0, 1, 'float32', i + 1);
      const original = variable.clone();
      const at = (step: number) => {
        variable.assign(tf.add(original, tf.mul(direction, step)));
        return loss().arraySync() as number;
      };
      const step = 2e-3;
      const numeric = (at(step) - at(-step)) / (2 * step);
      variable.assign(original);
      const analytic = tf.sum(tf.mul(grads[variable.name]!, direction)).arraySync() as number;
      expect(Math.abs(numeric - analytic)).toBeLessThan(2e-3 * Math.max(0.1, Math.abs(analytic)));
    }
  });

  test('keeps float32 weights when dtype is "bfloat16", and packs them for a policy object', () => {
    const float = load(SMALL, {dtype: 'bfloat16'});
    expect(float.dtypePolicy.name).toBe('float32');
    const packed = load(SMALL, {dtype: {className: 'DTypePolicy', config: {name: 'bfloat16'}}});
    const kernels = packed.weights.filter(weight => weight.shape.length > 1);
    expect(kernels.every(weight => weight instanceof PackedWeight)).toBe(true);
    // With the same rounded weights, the float32 encoder must give the same results.
    for (const [i, weight] of float.weights.entries()) weight.write(packed.weights[i]!.read());
    const images = randomImages(1, 2);
    expect(packed.call(images)).toBeAllClose(float.call(images), {atol: 1e-5});
    expect(new Gemma3VisionEncoder(packed.getConfig() as never).dtypePolicy.name).toBe('bfloat16');
  });

  test('is restored from its configuration', () => {
    const config = new Gemma3VisionEncoder({...argsOf(CASES.encoders[2]!), name: 'vision'}).getConfig();
    expect(config).toMatchObject({imageSize: 10, poolSize: 2, layerNormEpsilon: 1e-2, name: 'vision'});
    const copy = new Gemma3VisionEncoder(config as never);
    expect(copy.getConfig()).toEqual(config);
    for (const layer of copy.layers.slice(1)) {
      const Class = layer.constructor as new (config: tf.serialization.ConfigDict) => typeof layer;
      expect(new Class(layer.getConfig()).getConfig()).toEqual(layer.getConfig());
    }
    expect(new Gemma3VisionEncoder(argsOf(CASES.encoders[3]!)).config.poolSize).toBe(14);
  });

  test('is frozen and unfrozen as a whole', () => {
    const encoder = load(SMALL);
    encoder.trainable = false;
    expect(encoder.trainableWeights).toHaveLength(0);
    expect(encoder.nonTrainableWeights).toHaveLength(Object.keys(SMALL.weights).length);
    encoder.trainable = true;
    expect(encoder.nonTrainableWeights).toHaveLength(0);
  });

  test('refuses sizes that do not match', () => {
    const build = (args: object) => () => new Gemma3VisionEncoder({...argsOf(SMALL), ...args});
    expect(build({numHeads: 3})).toThrow('hiddenDim to be divisible by numHeads. Received: hiddenDim=8, numHeads=3.');
    expect(build({patchSize: 9})).toThrow('patchSize to be at most imageSize. Received: patchSize=9, imageSize=8.');
    expect(build({poolSize: 5})).toThrow('at most the 4 patches along a side of an image. Received: poolSize=5');
    expect(build({numLayers: 1.5})).toThrow('`numLayers` to be a positive integer. Received: numLayers=1.5.');
    expect(build({imagesize: 8})).toThrow('Gemma3VisionEncoder has no argument "imagesize"');
    const encoder = load(SMALL);
    expect(() => encoder.call(randomImages(1, 1, 10))).toThrow('(batch, images, 8, 8, 3). Received: [1,1,10,10,3].');
    expect(() => encoder.call(tf.zeros([1, 8, 8, 3]))).toThrow('Received: [1,8,8,3].');
  });
});

describe('layers of the vision encoder', () => {
  test('PatchConv2D is a strided convolution, including its gradients', () => {
    const layer = new PatchConv2D({filters: 5, patchSize: 3});
    layer.build([null, 8, 7, 3]);
    const kernel = layer.kernel.read() as tf.Tensor4D;
    layer.bias.write(tf.randomNormal([5], 0, 1, 'float32', 2));
    const plain = (x: tf.Tensor) =>
      tf.reshape(tf.add(tf.conv2d(x as tf.Tensor4D, kernel, 3, 'valid'), layer.bias.read()), [2, 4, 5]);
    expectSameGradients(x => layer.call(x), plain, [tf.randomNormal([2, 8, 7, 3], 0, 1, 'float32', 1)], {atol: 2e-5});
    expect(layer.computeOutputShape([null, 8, 7, 3])).toEqual([null, 4, 5]);
  });

  test('attention in slices gives the results and gradients of attention', () => {
    const [q, k, v] = [1, 2, 3].map(seed => tf.randomNormal([2, 7, 2, 3], 0, 1, 'float32', seed) as tf.Tensor4D);
    const plain = (...[queries, keys, values]: tf.Tensor[]) => {
      const [a, b, c] = [queries!, keys!, values!].map(x => tf.transpose(x, [0, 2, 1, 3]));
      const probabilities = tf.softmax(tf.div(tf.matMul(a!, b!, false, true), Math.sqrt(3)));
      return tf.transpose(tf.matMul(probabilities, c!), [0, 2, 1, 3]);
    };
    // 28 logits per query: all queries at once, three at a time, and one at a time, which still exceeds the limit.
    for (const maxLogits of [1000, 90, 1]) {
      const f = (...[a, b, c]: tf.Tensor[]) =>
        visionAttention(a as tf.Tensor4D, b as tf.Tensor4D, c as tf.Tensor4D, 0, maxLogits);
      expectSameGradients(f, plain, [q!, k!, v!], {atol: 2e-5});
    }
  });

  test('attention applies dropout only during training', () => {
    const layer = new Gemma3VisionAttention({hiddenDim: 4, numHeads: 2, dropout: 0.5});
    layer.build();
    const x = tf.randomNormal([1, 6, 4], 0, 1, 'float32', 1);
    const [first, second] = [layer.call(x), layer.call(x)];
    expect(first).toBeAllClose(second, {atol: 0});
    expect(layer.call(x, {training: true})).not.toBeAllClose(first, {atol: 1e-3});
    expect(new Gemma3VisionAttention(layer.getConfig() as never).getConfig()).toEqual(layer.getConfig());
    expect(() => new Gemma3VisionAttention({hiddenDim: 4, numHeads: 2, dropout: 1})).toThrow('`dropout` in [0, 1)');
  });

  test('pooling and output accept empty batches', () => {
    const pooling = new Gemma3VisionAveragePooling({imageSize: 8, patchSize: 2, poolSize: 2});
    expect(pooling.call(tf.zeros([0, 16, 5])).shape).toEqual([0, 4, 5]);
    expect(pooling.computeOutputShape([null, 16, 5])).toEqual([null, 4, 5]);
    const output = new Gemma3VisionOutput({outputDim: 6});
    output.build([null, 4, 5]);
    expect(output.call(tf.zeros([0, 4, 5])).shape).toEqual([0, 4, 6]);
  });
});

describe('Gemma3InterleaveEmbeddings', () => {
  test('passes gradients to the inputs that the values came from', () => {
    // Each sample has two image slots. The second sample uses one of them, the third none.
    const rows = [
      [1, 2, 4, 5],
      [3, 4, 0, 0],
      [0, 0, 0, 0],
    ];
    const indices = tf.tensor2d(rows, [3, 4], 'int32');
    // The same with matrices of zeros and ones: image row m is written to position t of its sample.
    const chosen = tf.tensor(
      rows.flatMap((row, sample) =>
        Array.from({length: 6}, (_, place) =>
          rows.flatMap((other, s) => other.map((_, m) => (s === sample && place > 0 && row[m] === place ? 1 : 0))),
        ),
      ),
    ) as tf.Tensor2D; // (18, 12)
    const stays = tf.sub(1, tf.sum(chosen, 1, true));
    const plain = (text: tf.Tensor, images: tf.Tensor) =>
      tf.reshape(tf.add(tf.mul(tf.reshape(text, [18, 2]), stays), tf.matMul(chosen, images as tf.Tensor2D)), [3, 6, 2]);
    const f = (text: tf.Tensor, images: tf.Tensor) => interleave(text as tf.Tensor3D, images as tf.Tensor2D, indices);
    expectSameGradients(
      f,
      plain,
      [tf.randomNormal([3, 6, 2], 0, 1, 'float32', 1), tf.randomNormal([12, 2], 0, 1, 'float32', 2)],
      {atol: 2e-5},
    );
  });

  test('passes gradients through text without images', () => {
    const text = tf.randomNormal([1, 3, 2], 0, 1, 'float32', 1) as tf.Tensor3D;
    const f = (x: tf.Tensor) =>
      tf.sum(interleave(x as tf.Tensor3D, tf.zeros([0, 2]), tf.zeros([1, 0], 'int32'))) as tf.Scalar;
    expect(tf.grad(f)(text)).toBeAllClose(tf.onesLike(text), {atol: 0});
  });

  test('is restored from its configuration, and refuses inputs that do not match', () => {
    const layer = new Gemma3InterleaveEmbeddings({numVisionTokensPerImage: 2, name: 'i'});
    expect(new Gemma3InterleaveEmbeddings(layer.getConfig() as never).getConfig()).toEqual(layer.getConfig());
    const call = (images: number[], text: number[], indices: number[]) => () =>
      layer.call([tf.zeros(images), tf.zeros(text), tf.zeros(indices, 'int32')]);
    expect(call([1, 3, 4], [1, 6, 4], [1, 3])).toThrow('expected 2 embeddings of width 4 per image');
    expect(call([1, 2, 5], [1, 6, 4], [1, 2])).toThrow('Received: images [1,2,5], text [1,6,4], indices [1,2].');
    expect(call([2, 2, 4], [2, 6, 4], [2, 3])).toThrow('pad indices with 0');
    expect(call([1, 4], [1, 6, 4], [1, 2])).toThrow('Received: shapes [1,4], [1,6,4], [1,2].');
    expect(() => new Gemma3InterleaveEmbeddings({numVisionTokensPerImage: 0})).toThrow('to be a positive integer');
  });
});

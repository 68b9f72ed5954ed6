/** Numbers and shapes from KerasHub's own unit tests of Gemma 3 (`gemma3_*_test.py`) that no other test here has. */
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3Backbone,
  Gemma3InterleaveEmbeddings,
  Gemma3MeanPooling,
  Gemma3VisionEmbedding,
  Gemma3VisionEncoder,
  Gemma3VisionEncoderBlock,
} from '../../../src';

const image = {imageSize: 16, patchSize: 4};
const vision = {...image, numLayers: 2, numHeads: 2, hiddenDim: 8, intermediateDim: 16};
const makeBackbone = (withVision: boolean) =>
  new Gemma3Backbone({
    ...{vocabularySize: 256, imageSize: 16, numLayers: 6, numQueryHeads: 2, numKeyValueHeads: 1, hiddenDim: 8},
    ...{intermediateDim: 16, headDim: 4, usePostFfwNorm: true, usePostAttentionNorm: true},
    ...{useSlidingWindowAttention: true, slidingWindowSize: 1024},
    visionEncoder: withVision ? new Gemma3VisionEncoder({...vision, poolSize: 2, outputDim: 8}) : null,
  });

describe('gemma3_backbone_test.py', () => {
  test.each([
    [true, 7560, 15],
    [false, 5752, 10],
  ])('architecture characteristics, with vision: %j', (withVision, parameters, layers) => {
    const backbone = makeBackbone(withVision);
    expect([backbone.countParams(), backbone.layers.length]).toEqual([parameters, layers]);
    const sliding = backbone.transformerLayers.map(({config}) => config.useSlidingWindowAttention);
    expect(sliding).toEqual([true, true, true, true, true, false]);
    backbone.dispose();
  });
});

test('gemma3_lora_test.py: numbers of weights', () => {
  const backbone = makeBackbone(false);
  backbone.enableLora(4);
  expect([backbone.trainableWeights.length, backbone.nonTrainableWeights.length]).toEqual([24, 80]);
  backbone.dispose();
});

test('gemma3_layers_test.py: mean pooling, with the mask as an option or as the second input', () => {
  const rows = (from: number) => [0, 3, 6].map(step => [0, 1, 2].map(i => from + step + i));
  const hidden = tf.tensor3d([
    [
      [1, 2, 3],
      [4, 5, 6],
      [99, 99, 99],
    ],
    rows(10),
  ]);
  const paddingMask = tf.tensor2d(
    [
      [1, 1, 0],
      [1, 1, 1],
    ],
    undefined,
    'int32',
  );
  const layer = new Gemma3MeanPooling();
  const expected = [
    [2.5, 3.5, 4.5],
    [13, 14, 15],
  ];
  expect(layer.apply(hidden, {paddingMask}) as tf.Tensor).toBeAllClose(expected, 1e-6);
  expect(layer.apply([hidden, paddingMask]) as tf.Tensor).toBeAllClose(expected, 1e-6);
});

test('gemma3_layers_test.py: images replace the text at their indices only', () => {
  const images = tf.randomNormal([6, 2, 4], 0, 1, 'float32', 1);
  const text = tf.randomNormal([2, 10, 4], 0, 1, 'float32', 2);
  const indices = [
    [1, 2, 0, 0, 0, 0],
    [3, 4, 7, 8, 0, 0],
  ];
  const layer = new Gemma3InterleaveEmbeddings({numVisionTokensPerImage: 2});
  const y = layer.apply([images, text, tf.tensor2d(indices, undefined, 'int32')]) as tf.Tensor;
  const [pictures, written] = [images.arraySync() as number[][][], text.arraySync() as number[][][]];
  const expected = written.map((row, b) =>
    row.map((words, t) => {
      const slot = indices[b]!.findIndex(index => index === t && t > 0);
      return slot < 0 ? words : pictures[b * 3 + Math.floor(slot / 2)]![slot % 2]!;
    }),
  );
  expect(y).toBeAllClose(expected, {atol: 0});
});

describe('gemma3_vision_encoder_test.py', () => {
  test('shapes', () => {
    const block = new Gemma3VisionEncoderBlock(vision);
    expect((block.apply(tf.ones([2, 2, 16, 16, 3])) as tf.Tensor).shape).toEqual([4, 16, 8]);
    const embedding = new Gemma3VisionEmbedding({...image, hiddenDim: 8});
    expect((embedding.apply(tf.ones([1, 16, 16, 3])) as tf.Tensor).shape).toEqual([1, 16, 8]);
    const encoder = new Gemma3VisionEncoder({...vision, imageSize: 64, outputDim: 128, poolSize: 4});
    expect((encoder.apply(tf.ones([2, 2, 64, 64, 3])) as tf.Tensor).shape).toEqual([4, 16, 128]);
  });

  test('numbers that are added to the attention logits hide patches', () => {
    const block = new Gemma3VisionEncoderBlock({...vision, numLayers: 1});
    const images = tf.randomUniform([1, 1, 16, 16, 3], -1, 1, 'float32', 1);
    const plain = block.apply(images) as tf.Tensor;
    expect(block.apply(images, {attentionMask: tf.zeros([16])}) as tf.Tensor).toBeAllClose(plain, {atol: 1e-5});
    // Only the first patch is seen, so its change reaches all others, and no other change does.
    const attentionMask = tf.concat([tf.zeros([1]), tf.fill([15], -1e9)]);
    const first = block.apply(images, {attentionMask}) as tf.Tensor;
    expect(first).not.toBeAllClose(plain, {atol: 1e-3});
    const last = tf.concat([images.slice([0, 0, 0], [1, 1, 12]), tf.ones([1, 1, 4, 16, 3])], 2);
    const changed = block.apply(last, {attentionMask}) as tf.Tensor;
    expect(changed.slice([0, 0], [1, 12])).toBeAllClose(first.slice([0, 0], [1, 12]), {atol: 1e-6});
  });
});

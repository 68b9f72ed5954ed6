/** The layers of the backbone, and how they are connected. */
import * as tf from '@tensorflow/tfjs';
import {pick} from '../../../layers/arguments';
import {Dense} from '../../../layers/dense';
import {type Layer} from '../../../layers/layer';
import {ReversibleEmbedding} from '../../../layers/reversible_embedding';
import {RMSNormalization} from '../../../layers/rms_normalization';
import {UnitNormalization} from '../../../layers/unit_normalization';
import {Gemma3DecoderBlock} from '../gemma3_decoder_block';
import {Gemma3InterleaveEmbeddings, Gemma3MeanPooling} from '../gemma3_layers';
import {type Gemma3VisionEncoder} from '../gemma3_vision_encoder';
import {BLOCK_ARGUMENTS, type Gemma3BackboneConfig} from './backbone_config';
import {type Int8Kernel, int8Kernels} from './int8_kernels';
import {Multiply} from './multiply';

/** The layers of a backbone, before they are connected. */
export function makeLayers(config: Gemma3BackboneConfig, visionEncoder: Gemma3VisionEncoder | null) {
  const {hiddenDim, dtype} = config;
  return {
    tokenEmbedding: new ReversibleEmbedding({
      inputDim: config.vocabularySize,
      outputDim: hiddenDim,
      tieWeights: true,
      embeddingsInitializer: tf.initializers.varianceScaling({scale: 1, mode: 'fanIn', distribution: 'normal'}),
      logitSoftCap: config.finalLogitSoftCap,
      dtype,
      name: 'token_embedding',
    }),
    multiply: new Multiply({factor: Math.fround(Math.sqrt(hiddenDim)), name: 'multiply'}),
    visionEncoder,
    interleaveEmbeddings:
      visionEncoder &&
      new Gemma3InterleaveEmbeddings({
        numVisionTokensPerImage: visionEncoder.numVisionTokensPerImage,
        name: 'interleave_embeddings',
      }),
    transformerLayers: int8Kernels(config).map((kernels, i) => makeBlock(config, i, kernels)),
    layerNorm: new RMSNormalization({epsilon: config.layerNormEpsilon, dtype, name: 'final_normalization'}),
    embeddingHead: makeEmbeddingHead(config),
  };
}

type Layers = ReturnType<typeof makeLayers>;

/** Creates one decoder block. Five blocks with a sliding window are followed by one without, and so on. */
function makeBlock(config: Gemma3BackboneConfig, index: number, kernels: readonly Int8Kernel[]): Gemma3DecoderBlock {
  const sliding = config.useSlidingWindowAttention && index % 6 < 5;
  const block = new Gemma3DecoderBlock({
    ...pick(config, BLOCK_ARGUMENTS),
    gateDimReduction: 1,
    logitSoftCap: config.attentionLogitSoftCap,
    useSlidingWindowAttention: sliding,
    ropeWavelength: sliding ? 10_000 : 1_000_000,
    ropeScalingFactor: sliding ? config.localRopeScalingFactor : config.globalRopeScalingFactor,
    name: `decoder_block_${index}`,
  });
  block.storeAsInt8(kernels);
  return block;
}

/** The layers of EmbeddingGemma's head, https://arxiv.org/abs/2509.20354; none for other models. */
function makeEmbeddingHead(config: Gemma3BackboneConfig): Layer[] {
  const {isEmbeddingModel, poolingIntermediateDim, embeddingDim, dtype} = config;
  if (!isEmbeddingModel) return [];
  const project = (units: number, name: string) => new Dense({units, useBias: false, dtype, name});
  return [
    new Gemma3MeanPooling({dtype, name: 'mean_pooling'}),
    project(poolingIntermediateDim!, 'pooling_dense_1'),
    project(embeddingDim!, 'embedding_projection'),
    new UnitNormalization({dtype, name: 'unit_normalization'}),
  ];
}

const apply = (layer: tf.layers.Layer, inputs: tf.SymbolicTensor | tf.SymbolicTensor[]) =>
  layer.apply(inputs) as tf.SymbolicTensor;

/** Connects the layers into a functional model. `order` lists all of them in Keras' order, including the inputs. */
export function connect({tokenEmbedding, multiply, visionEncoder, interleaveEmbeddings, ...rest}: Layers) {
  const {transformerLayers, layerNorm, embeddingHead} = rest;
  const input = (name: string, shape: tf.Shape, dtype: 'int32' | 'float32') => tf.input({shape, dtype, name});
  const tokenIds = input('token_ids', [null], 'int32');
  const paddingMask = input('padding_mask', [null], 'int32');
  const inputs = [tokenIds, paddingMask];
  const masks = [paddingMask];
  const order: tf.layers.Layer[] = [tokenIds.sourceLayer];
  let x = apply(multiply, apply(tokenEmbedding, tokenIds));
  if (visionEncoder && interleaveEmbeddings) {
    const size = visionEncoder.config.imageSize;
    const images = input('images', [null, size, size, 3], 'float32');
    const indices = input('vision_indices', [null], 'int32');
    const visionMask = input('vision_mask', [null], 'int32');
    x = apply(interleaveEmbeddings, [apply(visionEncoder, images), x, indices]);
    inputs.push(images, indices, visionMask);
    masks.push(visionMask);
    order.push(images.sourceLayer, tokenEmbedding, visionEncoder, multiply, indices.sourceLayer, interleaveEmbeddings);
  } else {
    order.push(tokenEmbedding, multiply);
  }
  order.push(...masks.map(mask => mask.sourceLayer), ...transformerLayers, layerNorm, ...embeddingHead);
  for (const layer of transformerLayers) x = apply(layer, [x, ...masks]);
  const outputs = [apply(layerNorm, x)];
  const [pooling, ...projections] = embeddingHead;
  if (pooling) {
    const pooled = apply(pooling, [outputs[0]!, paddingMask]);
    outputs.push(projections.reduce((y, layer) => apply(layer, y), pooled));
  }
  return {inputs, outputs, order};
}

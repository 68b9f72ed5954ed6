/** Arguments of the backbone: what there is, defaults, and what does not fit. */
import {checkKeys, show, ValueError} from '../../base/errors';
import {camelKeys} from '../../base/casing';
import {isObject} from '../../base/json';
import {type DtypeLike, parseDtype} from '../../weights/dtype';
import {checkGemma3Arguments} from './parts/arguments';
import {Gemma3VisionEncoder, type Gemma3VisionEncoderArgs} from './gemma3_vision_encoder';

export interface Gemma3BackboneArgs {
  /** Size of the token vocabulary. */
  vocabularySize: number;
  /** Width and height of images, that of the vision encoder. Without one it may be null, and is not used. */
  imageSize: number | null;
  /** Number of decoder blocks. */
  numLayers: number;
  /** Number of query heads in a block. */
  numQueryHeads: number;
  /** Number of key and value heads in a block; divides `numQueryHeads`. */
  numKeyValueHeads: number;
  /** Width of the hidden state. */
  hiddenDim: number;
  /** Width of the feed-forward network. */
  intermediateDim: number;
  /** Width of a head, even. */
  headDim: number;
  /** Scale queries by 1/√headDim (true, the default) or by 1/√(hiddenDim // numQueryHeads). */
  queryHeadDimNormalize?: boolean;
  /** Normalize queries and keys before they turn. Defaults to true. */
  useQueryKeyNorm?: boolean;
  /** Normalize after the feed-forward network. Defaults to false. */
  usePostFfwNorm?: boolean;
  /** Normalize after attention. Defaults to false. */
  usePostAttentionNorm?: boolean;
  /** Soft cap on attention logits. Null, the default: none. */
  attentionLogitSoftCap?: number | null;
  /** Soft cap on the final logits. Null, the default: none. */
  finalLogitSoftCap?: number | null;
  /** Five of six blocks see only a window of keys. Defaults to false. */
  useSlidingWindowAttention?: boolean;
  /** Width of this window. Defaults to 1024. */
  slidingWindowSize?: number;
  /** Positions of blocks with a window are divided by this. Defaults to 1. */
  localRopeScalingFactor?: number;
  /** Positions of blocks without a window are divided by this. Defaults to 1; 8 from 4B up. */
  globalRopeScalingFactor?: number;
  /** A vision encoder, its configuration, or null for a model of text. Defaults to null. */
  visionEncoder?: Gemma3VisionEncoder | Gemma3VisionEncoderArgs | object | null;
  /** Epsilon of all norms. Defaults to 1e-6. */
  layerNormEpsilon?: number;
  /** Let tokens see what comes after them: embedding models. Defaults to false. */
  useBidirectionalAttention?: boolean;
  /** Rate of dropout in the decoder blocks while training. Defaults to 0. */
  dropout?: number;
  /**
   * Add a head that makes one embedding of a text: mean pooling, two projections, length 1. The model has two outputs then.
   * Defaults to false.
   */
  isEmbeddingModel?: boolean;
  /** Width between the projections; an embedding model needs it. Defaults to null. */
  poolingIntermediateDim?: number | null;
  /** Width of the embeddings; an embedding model needs it. Defaults to null. */
  embeddingDim?: number | null;
  /**
   * How weights rest: see {@link DtypeLike}. Arithmetic is float32. Defaults to "float32", as Keras' global policy is.
   */
  dtype?: DtypeLike | null;
  /** Name of the model. Defaults to "gemma3_backbone", with a number behind it from the second one on. */
  name?: string;
  /** Whether the weights are trained. Defaults to true. */
  trainable?: boolean;
}

const KNOWN: readonly (keyof Gemma3BackboneArgs)[] = [
  'vocabularySize',
  'imageSize',
  'numLayers',
  'numQueryHeads',
  'numKeyValueHeads',
  'hiddenDim',
  'intermediateDim',
  'headDim',
  'queryHeadDimNormalize',
  'useQueryKeyNorm',
  'usePostFfwNorm',
  'usePostAttentionNorm',
  'attentionLogitSoftCap',
  'finalLogitSoftCap',
  'useSlidingWindowAttention',
  'slidingWindowSize',
  'localRopeScalingFactor',
  'globalRopeScalingFactor',
  'visionEncoder',
  'layerNormEpsilon',
  'useBidirectionalAttention',
  'dropout',
  'isEmbeddingModel',
  'poolingIntermediateDim',
  'embeddingDim',
  'dtype',
  'name',
  'trainable',
];

/** All arguments with their defaults. */
export type Gemma3BackboneConfig = Required<Omit<Gemma3BackboneArgs, 'visionEncoder' | 'dtype' | 'name'>> & {
  dtype: string;
};

/**
 * All arguments, from those given in camelCase.
 *
 * @throws ValueError on unknown, missing, unusable or contradictory ones.
 */
export function completeConfig(given: Gemma3BackboneArgs): Gemma3BackboneConfig {
  const owner = 'Gemma3Backbone';
  checkKeys(owner, given, KNOWN);
  const {vocabularySize, numLayers, numQueryHeads, numKeyValueHeads, hiddenDim, intermediateDim, headDim} = given;
  const sizes = {vocabularySize, numLayers, numQueryHeads, numKeyValueHeads, hiddenDim, intermediateDim, headDim};
  const config: Gemma3BackboneConfig = {
    ...sizes,
    imageSize: given.imageSize ?? null,
    queryHeadDimNormalize: given.queryHeadDimNormalize ?? true,
    useQueryKeyNorm: given.useQueryKeyNorm ?? true,
    usePostFfwNorm: given.usePostFfwNorm ?? false,
    usePostAttentionNorm: given.usePostAttentionNorm ?? false,
    attentionLogitSoftCap: given.attentionLogitSoftCap ?? null,
    finalLogitSoftCap: given.finalLogitSoftCap ?? null,
    useSlidingWindowAttention: given.useSlidingWindowAttention ?? false,
    slidingWindowSize: given.slidingWindowSize ?? 1024,
    localRopeScalingFactor: given.localRopeScalingFactor ?? 1,
    globalRopeScalingFactor: given.globalRopeScalingFactor ?? 1,
    layerNormEpsilon: given.layerNormEpsilon ?? 1e-6,
    useBidirectionalAttention: given.useBidirectionalAttention ?? false,
    dropout: given.dropout ?? 0,
    isEmbeddingModel: given.isEmbeddingModel ?? false,
    poolingIntermediateDim: given.poolingIntermediateDim ?? null,
    embeddingDim: given.embeddingDim ?? null,
    dtype: parseDtype(given.dtype).name,
    trainable: given.trainable ?? true,
  };
  checkGemma3Arguments(owner, {...config, name: given.name ?? ''});
  if (config.isEmbeddingModel && (config.embeddingDim === null || config.poolingIntermediateDim === null)) {
    throw new ValueError(
      'Must specify embeddingDim and poolingIntermediateDim for an embedding model. Received: ' +
        `embeddingDim=${config.embeddingDim}, poolingIntermediateDim=${config.poolingIntermediateDim}.`,
    );
  }
  return config;
}

/**
 * From an instance, its arguments in either casing, or what Keras serialized.
 *
 * @throws ValueError on anything else.
 */
export function toVisionEncoder(given: Gemma3BackboneArgs['visionEncoder']): Gemma3VisionEncoder | null {
  if (given == null) return null;
  if (given instanceof Gemma3VisionEncoder) return given;
  const {
    className,
    class_name: kind = className,
    config = given,
  } = (isObject(given) ? given : {}) as {
    className?: unknown;
    class_name?: unknown;
    config?: unknown;
  };
  if (!isObject(config) || (kind !== undefined && kind !== 'Gemma3VisionEncoder')) {
    throw new ValueError(
      'Gemma3Backbone expected `visionEncoder` to be a Gemma3VisionEncoder, its configuration, or null. ' +
        `Received: visionEncoder=${show(given)}.`,
    );
  }
  return new Gemma3VisionEncoder(camelKeys(config) as never);
}

/** Arguments of the backbone, with their defaults and checks. */
import * as tf from '@tensorflow/tfjs';
import {camelKey, camelKeys} from '../../../base/casing';
import {checkArgument} from '../../../base/checks';
import {checkKeys, describeNotA, listed, show, ValueError} from '../../../base/errors';
import {isObject, type JsonObject} from '../../../base/json';
import {type ArgumentTable, completeArguments, namesOf} from '../../../layers/arguments';
import {type DtypeLike, type DtypeName, parseDtype} from '../../../weights/dtype';
import {ENCODER_ARGUMENTS, Gemma3VisionEncoder, type Gemma3VisionEncoderArgs} from '../gemma3_vision_encoder';
import {checkAttentionHeads} from './attention_heads';

/** Arguments of {@link Gemma3Backbone}. */
export interface Gemma3BackboneArgs {
  /** Size of the token vocabulary. */
  vocabularySize: number;
  /** Width and height of images, as in the vision encoder. Unused without a vision encoder, and may then be null. */
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
  /** Width of a head; an even number. */
  headDim: number;
  /** Scale queries by 1/√headDim (true, the default) or by 1/√(hiddenDim // numQueryHeads). */
  queryHeadDimNormalize?: boolean;
  /** Normalize queries and keys before rotary positions are applied. Defaults to true. */
  useQueryKeyNorm?: boolean;
  /** Normalize after the feed-forward network. Defaults to false. */
  usePostFfwNorm?: boolean;
  /** Normalize after attention. Defaults to false. */
  usePostAttentionNorm?: boolean;
  /** Soft cap on attention logits. Null, the default: none. */
  attentionLogitSoftCap?: number | null;
  /** Soft cap on the final logits. Null, the default: none. */
  finalLogitSoftCap?: number | null;
  /** Let tokens see only a window of keys in five of six blocks. Defaults to false. */
  useSlidingWindowAttention?: boolean;
  /** Width of this window: keys at this distance or more are not seen. Defaults to 1024. */
  slidingWindowSize?: number;
  /** Positions of blocks with a window are divided by this. Defaults to 1. */
  localRopeScalingFactor?: number;
  /** Positions of blocks without a window are divided by this. Defaults to 1; models from 4B up have 8. */
  globalRopeScalingFactor?: number;
  /** A vision encoder, its configuration, or null for a text-only model. Defaults to null. */
  visionEncoder?: Gemma3VisionEncoder | Gemma3VisionEncoderArgs | object | null;
  /** Epsilon of all norms. Defaults to 1e-6. */
  layerNormEpsilon?: number;
  /** Let tokens see later tokens, as in embedding models. Defaults to false. */
  useBidirectionalAttention?: boolean;
  /** Rate of dropout in the decoder blocks while training. Defaults to 0. */
  dropout?: number;
  /**
   * Add a head that computes one embedding per text: mean pooling, two projections, normalization to length 1. The
   * model then has two outputs. Defaults to false.
   */
  isEmbeddingModel?: boolean;
  /** Width between the projections; required for an embedding model. Defaults to null. */
  poolingIntermediateDim?: number | null;
  /** Width of the embeddings; required for an embedding model. Defaults to null. */
  embeddingDim?: number | null;
  /**
   * How weights are stored: see {@link DtypeLike}. Arithmetic is float32. Defaults to "float32", like Keras' global
   * policy.
   */
  dtype?: DtypeLike | null;
  /** Name of the model. Defaults to "gemma3_backbone", with a number appended from the second one on. */
  name?: string;
  /** Whether the weights are trained. Defaults to true. */
  trainable?: boolean;
}

/** In the order of `config.json`. */
const ARGUMENTS = {
  vocabularySize: ['size'],
  numLayers: ['size'],
  numQueryHeads: ['size'],
  numKeyValueHeads: ['size'],
  hiddenDim: ['size'],
  intermediateDim: ['size'],
  headDim: ['size'],
  imageSize: ['sizeOrNull', null],
  queryHeadDimNormalize: ['flag', true],
  useQueryKeyNorm: ['flag', true],
  usePostFfwNorm: ['flag', false],
  usePostAttentionNorm: ['flag', false],
  attentionLogitSoftCap: ['positiveOrNull', null],
  finalLogitSoftCap: ['positiveOrNull', null],
  useSlidingWindowAttention: ['flag', false],
  slidingWindowSize: ['size', 1024],
  localRopeScalingFactor: ['positive', 1],
  globalRopeScalingFactor: ['positive', 1],
  layerNormEpsilon: ['positive', 1e-6],
  useBidirectionalAttention: ['flag', false],
  dropout: ['rate', 0],
  isEmbeddingModel: ['flag', false],
  poolingIntermediateDim: ['sizeOrNull', null],
  embeddingDim: ['sizeOrNull', null],
} satisfies ArgumentTable<Omit<Gemma3BackboneArgs, 'visionEncoder' | 'dtype' | 'name' | 'trainable'>>;

/** The names of the arguments that are attributes of a backbone, too. */
export const BACKBONE_ATTRIBUTES = namesOf(ARGUMENTS);

/** The names of all arguments. */
export const BACKBONE_ARGUMENTS = [...BACKBONE_ATTRIBUTES, 'visionEncoder', 'dtype', 'name', 'trainable'] as const;

/** Arguments that a backbone passes to its decoder blocks unchanged. */
export const BLOCK_ARGUMENTS = [
  'hiddenDim',
  'intermediateDim',
  'headDim',
  'numQueryHeads',
  'numKeyValueHeads',
  'queryHeadDimNormalize',
  'useQueryKeyNorm',
  'usePostFfwNorm',
  'usePostAttentionNorm',
  'slidingWindowSize',
  'layerNormEpsilon',
  'useBidirectionalAttention',
  'dropout',
  'dtype',
] as const satisfies readonly (keyof Gemma3BackboneConfig)[];

/** All arguments with their defaults. */
export type Gemma3BackboneConfig = Required<Omit<Gemma3BackboneArgs, 'visionEncoder' | 'dtype' | 'name'>> & {
  dtype: DtypeName;
};

/**
 * Completes and checks arguments in camelCase.
 *
 * @throws ValueError on unknown, missing, unusable or contradictory ones.
 */
export function completeConfig(given: Partial<Gemma3BackboneArgs>): Gemma3BackboneConfig {
  const owner = 'Gemma3Backbone';
  checkKeys(owner, given, BACKBONE_ARGUMENTS);
  const trainable = given.trainable ?? true;
  checkArgument(owner, 'trainable', trainable, 'flag');
  checkArgument(owner, 'name', given.name ?? '', 'text');
  const config: Gemma3BackboneConfig = {
    ...completeArguments(owner, given, ARGUMENTS),
    dtype: parseDtype(given.dtype).name,
    trainable,
  };
  checkAttentionHeads(owner, config);
  if (config.isEmbeddingModel && (config.embeddingDim === null || config.poolingIntermediateDim === null)) {
    throw new ValueError(
      'Must specify embeddingDim and poolingIntermediateDim for an embedding model. Received: ' +
        `embeddingDim=${config.embeddingDim}, poolingIntermediateDim=${config.poolingIntermediateDim}.`,
    );
  }
  return config;
}

const KEYS = [...namesOf(ARGUMENTS), 'visionEncoder', 'dtype', 'name', 'trainable'];
const VISION_KEYS = [...namesOf(ENCODER_ARGUMENTS), 'dtype', 'name', 'trainable'];

/**
 * The configuration of a preset without unknown keys, such as options of a later KerasHub. KerasHub ignores them
 * silently; here a warning names them.
 *
 * @param config as in `config.json`.
 * @param preset its name, for the warning.
 */
export function knownConfig(config: JsonObject, preset: string): JsonObject {
  const unknown: string[] = [];
  const known = (given: JsonObject, keys: readonly string[], path: string): JsonObject =>
    Object.fromEntries(
      Object.entries(given).filter(([key]) => keys.includes(camelKey(key)) || !unknown.push(`"${path}${key}"`)),
    );
  const kept = known(config, KEYS, '');
  const vision = kept.vision_encoder;
  if (isObject(vision)) {
    // Serialized by Keras, or only the configuration, as in the registry.
    kept.vision_encoder = isObject(vision.config)
      ? {...vision, config: known(vision.config, VISION_KEYS, 'vision_encoder.')}
      : known(vision, VISION_KEYS, 'vision_encoder.');
  }
  if (unknown.length) {
    console.warn(
      `The config.json of preset "${preset}" has unknown keys that are ignored, as by KerasHub: ` +
        `${listed(unknown)}. Another version of KerasHub may have saved it. If results differ from those in Python, ` +
        'these options are the reason.',
    );
  }
  return kept;
}

/**
 * A vision encoder from an instance, from its arguments in either casing, or from Keras' serialized form.
 *
 * @throws ValueError on anything else.
 */
export function toVisionEncoder(given: Gemma3BackboneArgs['visionEncoder']): Gemma3VisionEncoder | null {
  if (given == null) return null;
  if (given instanceof Gemma3VisionEncoder) return given;
  if (given instanceof tf.layers.Layer) {
    throw new ValueError(
      `Gemma3Backbone expected a Gemma3VisionEncoder. Received: ${describeNotA(Gemma3VisionEncoder, given)}.`,
    );
  }
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
  return new Gemma3VisionEncoder(camelKeys(config) as unknown as Gemma3VisionEncoderArgs);
}

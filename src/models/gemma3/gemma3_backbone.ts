import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../../errors';
import {openPreset, type PresetLike} from '../../hub/open_preset';
import {readAll} from '../../hub/preset_source';
import {checkDropout, checkPositiveInteger, firstTensor, Layer, type TensorOrTensors} from '../../layers/layer';
import {ReversibleEmbedding} from '../../layers/reversible_embedding';
import {RMSNormalization} from '../../layers/rms_normalization';
import {camelKeys, isSerialized, parseSerialized} from '../../saving/keras_config';
import {loadPresetWeights} from '../../saving/preset_weights';
import {type DtypeLike, parseDtype} from '../../weights/dtype';
import {
  Backbone,
  FROM_PRESET_OPTIONS,
  type FromPresetOptions,
  type ModelInputs,
  uniqueModelName,
  unpackConfig,
} from '../backbone';
import {Gemma3DecoderBlock} from './gemma3_decoder_block';
import {Gemma3InterleaveEmbeddings} from './gemma3_interleave_embeddings';
import {type PresetEntry, presets} from './gemma3_presets';
import {Gemma3VisionEncoder, type Gemma3VisionEncoderArgs} from './gemma3_vision_encoder';

export interface Gemma3BackboneArgs {
  /** Size of the token vocabulary. */
  vocabularySize: number;
  /** Width and height of images, for a model with a vision encoder; else null. */
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
  /** Not available yet: true throws. */
  isEmbeddingModel?: boolean;
  poolingIntermediateDim?: number | null;
  embeddingDim?: number | null;
  /**
   * How weights rest: "float32" or "bfloat16", or a Keras policy. Arithmetic is float32. Defaults to "float32", as
   * Keras' global policy is.
   */
  dtype?: DtypeLike | null;
  name?: string;
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

/** `x · factor`: Keras' `Multiply`, which stands in the graph between the embedding and the first block. */
class Multiply extends Layer {
  static className = 'Multiply';
  constructor(private readonly factor: number) {
    super({name: 'multiply'});
  }
  override call(inputs: TensorOrTensors): tf.Tensor {
    return tf.mul(firstTensor(inputs), this.factor);
  }
}

/** Checks all arguments and fills in defaults. */
function completeConfig(given: Gemma3BackboneArgs): Gemma3BackboneConfig {
  const owner = 'Gemma3Backbone';
  checkKeys(owner, given, KNOWN);
  const {vocabularySize, numLayers, numQueryHeads, numKeyValueHeads, hiddenDim, intermediateDim, headDim} = given;
  const sizes = {vocabularySize, numLayers, numQueryHeads, numKeyValueHeads, hiddenDim, intermediateDim, headDim};
  for (const [name, value] of Object.entries(sizes)) checkPositiveInteger(owner, name, value);
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
  checkDropout(owner, config.dropout);
  checkPositiveInteger(owner, 'slidingWindowSize', config.slidingWindowSize);
  const positive = ['localRopeScalingFactor', 'globalRopeScalingFactor', 'layerNormEpsilon'] as const;
  const caps = ['attentionLogitSoftCap', 'finalLogitSoftCap'] as const;
  for (const name of [...positive, ...caps.filter(name => config[name] !== null)]) {
    const value = config[name];
    if (typeof value !== 'number' || !(value > 0)) {
      throw new ValueError(`${owner} expected \`${name}\` to be above 0. Received: ${name}=${show(value)}.`);
    }
  }
  if (numQueryHeads % numKeyValueHeads !== 0 || headDim % 2 !== 0) {
    throw new ValueError(
      `${owner} expected numQueryHeads to be a multiple of numKeyValueHeads, and headDim to be even. ` +
        `Received: numQueryHeads=${numQueryHeads}, numKeyValueHeads=${numKeyValueHeads}, headDim=${headDim}.`,
    );
  }
  if (config.isEmbeddingModel) {
    if (config.embeddingDim === null || config.poolingIntermediateDim === null) {
      throw new ValueError('Must specify embeddingDim and poolingIntermediateDim for an embedding model.');
    }
    throw new ValueError('Embedding models (isEmbeddingModel: true) are not available yet. Received: true.');
  }
  return config;
}

/** From an instance, its arguments in either casing, or what Keras serialized. */
function toVisionEncoder(given: Gemma3BackboneArgs['visionEncoder']): Gemma3VisionEncoder | null {
  if (given == null) return null;
  if (given instanceof Gemma3VisionEncoder) return given;
  return new Gemma3VisionEncoder(
    camelKeys(isSerialized(given) ? given.config : 'config' in given ? (given.config as object) : given) as never,
  );
}

/**
 * Gemma 3 without its head: token ids in, hidden states out. As `keras_hub.models.Gemma3Backbone`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_backbone/); Gemma 3 Technical Report,
 * https://arxiv.org/abs/2503.19786.
 *
 * Inputs by name: `token_ids` int32 (B, T), `padding_mask` int32 (B, T); with a vision encoder also `images` (B, I, S, S,
 * 3), `vision_indices` (B, V) and `vision_mask` (B, T). Output: (B, T, hiddenDim).
 *
 * Weights are declared, not filled: they are initialised when first read, unless a file fills them before.
 *
 * @throws ValueError on unknown, missing or contradictory arguments.
 */
export class Gemma3Backbone extends Backbone {
  /** @nocollapse */
  static override className = 'Gemma3Backbone';
  readonly tokenEmbedding: ReversibleEmbedding;
  readonly visionEncoder: Gemma3VisionEncoder | null;
  readonly interleaveEmbeddings: Gemma3InterleaveEmbeddings | null;
  readonly transformerLayers: readonly Gemma3DecoderBlock[];
  readonly layerNorm: RMSNormalization;
  readonly config: Gemma3BackboneConfig;
  private readonly multiply: Multiply;

  constructor(args: Gemma3BackboneArgs) {
    const given = camelKeys(unpackConfig(args)) as unknown as Gemma3BackboneArgs;
    const config = completeConfig(given);
    const {hiddenDim, dtype} = config;
    const visionEncoder = toVisionEncoder(given.visionEncoder);
    if (visionEncoder && config.imageSize !== visionEncoder.config.imageSize) {
      throw new ValueError(
        `Gemma3Backbone expected imageSize to be that of its vision encoder, ${visionEncoder.config.imageSize}. ` +
          `Received: ${config.imageSize}.`,
      );
    }

    // === Layers ===
    const tokenEmbedding = new ReversibleEmbedding({
      inputDim: config.vocabularySize,
      outputDim: hiddenDim,
      tieWeights: true,
      embeddingsInitializer: tf.initializers.varianceScaling({scale: 1, mode: 'fanIn', distribution: 'normal'}),
      logitSoftCap: config.finalLogitSoftCap,
      dtype,
      name: 'token_embedding',
    });
    const transformerLayers = Array.from({length: config.numLayers}, (_, i) => {
      // Five blocks with a window, then one without.
      const sliding = config.useSlidingWindowAttention && i % 6 < 5;
      return new Gemma3DecoderBlock({
        hiddenDim,
        intermediateDim: config.intermediateDim,
        headDim: config.headDim,
        numQueryHeads: config.numQueryHeads,
        numKeyValueHeads: config.numKeyValueHeads,
        queryHeadDimNormalize: config.queryHeadDimNormalize,
        useQueryKeyNorm: config.useQueryKeyNorm,
        usePostFfwNorm: config.usePostFfwNorm,
        usePostAttentionNorm: config.usePostAttentionNorm,
        gateDimReduction: 1,
        logitSoftCap: config.attentionLogitSoftCap,
        useSlidingWindowAttention: sliding,
        slidingWindowSize: config.slidingWindowSize,
        layerNormEpsilon: config.layerNormEpsilon,
        ropeWavelength: sliding ? 10_000 : 1_000_000,
        ropeScalingFactor: sliding ? config.localRopeScalingFactor : config.globalRopeScalingFactor,
        useBidirectionalAttention: config.useBidirectionalAttention,
        dropout: config.dropout,
        dtype,
        name: `decoder_block_${i}`,
      });
    });
    const layerNorm = new RMSNormalization({epsilon: config.layerNormEpsilon, dtype, name: 'final_normalization'});
    const multiply = new Multiply(Math.fround(Math.sqrt(hiddenDim)));
    const interleave = visionEncoder
      ? new Gemma3InterleaveEmbeddings({
          numVisionTokensPerImage: visionEncoder.numVisionTokensPerImage,
          name: 'interleave_embeddings',
        })
      : null;

    // === Functional model ===
    const input = (name: string, shape: tf.Shape, type: 'int32' | 'float32') => tf.input({shape, dtype: type, name});
    const tokenIds = input('token_ids', [null], 'int32');
    const paddingMask = input('padding_mask', [null], 'int32');
    const inputs = [tokenIds, paddingMask];
    let x = multiply.apply(tokenEmbedding.apply(tokenIds)) as tf.SymbolicTensor;
    const layers: tf.layers.Layer[] = [tokenIds.sourceLayer];
    const masks = [paddingMask];
    if (visionEncoder && interleave) {
      const size = visionEncoder.config.imageSize;
      const images = input('images', [null, size, size, 3], 'float32');
      const visionIndices = input('vision_indices', [null], 'int32');
      const visionMask = input('vision_mask', [null], 'int32');
      const imageEmbeddings = visionEncoder.apply(images) as tf.SymbolicTensor;
      x = interleave.apply([imageEmbeddings, x, visionIndices]) as tf.SymbolicTensor;
      inputs.push(images, visionIndices, visionMask);
      masks.push(visionMask);
      layers.push(images.sourceLayer, tokenEmbedding, visionEncoder, multiply, visionIndices.sourceLayer, interleave);
    } else {
      layers.push(tokenEmbedding, multiply);
    }
    layers.push(...masks.map(mask => mask.sourceLayer), ...transformerLayers, layerNorm);
    for (const layer of transformerLayers) x = layer.apply([x, ...masks]) as tf.SymbolicTensor;
    const outputs = layerNorm.apply(x) as tf.SymbolicTensor;
    super({inputs, outputs, name: given.name ?? uniqueModelName('gemma3_backbone')});

    // === Config ===
    this.tokenEmbedding = tokenEmbedding;
    this.visionEncoder = visionEncoder;
    this.interleaveEmbeddings = interleave;
    this.transformerLayers = transformerLayers;
    this.layerNorm = layerNorm;
    this.multiply = multiply;
    this.config = config;
    this.setLayers(layers, [multiply]);
    if (!config.trainable) this.trainable = false;
  }

  /** True for a model without a vision encoder. */
  get textOnlyModel(): boolean {
    return this.visionEncoder === null;
  }

  /** Token ids (B, T) → embeddings (B, T, hiddenDim) as the first block gets them. */
  embedTokens(tokenIds: tf.Tensor): tf.Tensor {
    return tf.tidy(() => this.multiply.call(this.tokenEmbedding.call(tokenIds)));
  }

  override getConfig(): tf.serialization.ConfigDict {
    const visionEncoder = this.visionEncoder && {
      className: 'Gemma3VisionEncoder',
      config: this.visionEncoder.getConfig(),
    };
    return {name: this.name, ...this.config, visionEncoder};
  }

  /** A backbone from what `getConfig` gave, or from a configuration that Keras wrote. */
  static override fromConfig(config: object): Gemma3Backbone;
  static override fromConfig<T extends tf.serialization.Serializable>(
    cls: tf.serialization.SerializableConstructor<T>,
    config: tf.serialization.ConfigDict,
  ): T;
  static override fromConfig(first: unknown, second?: unknown): unknown {
    // tfjs passes the class in front when it loads a model.
    return new Gemma3Backbone((typeof first === 'function' ? second : first) as Gemma3BackboneArgs);
  }

  /** All presets that KerasHub publishes, as data. */
  static get presets(): Readonly<Record<string, PresetEntry>> {
    return presets;
  }

  /**
   * A backbone with the weights of a preset: a folder as KerasHub saves it, an http(s) address of one, or the name of
   * the preset in the package. With `loadWeights: false` any name of {@link Gemma3Backbone.presets} will do.
   *
   * @throws ValueError if files are missing, foreign or truncated, or do not fit the configuration; nothing of the
   * model stays in memory.
   */
  static async fromPreset(preset: PresetLike, options: FromPresetOptions = {}): Promise<Gemma3Backbone> {
    checkKeys('fromPreset', options, FROM_PRESET_OPTIONS);
    const {loadWeights = true, dtype, onProgress, signal} = options;
    signal?.throwIfAborted();
    const override = dtype === undefined ? {} : {dtype: parseDtype(dtype).name};
    if (!loadWeights && typeof preset === 'string' && presets[preset]) {
      return new Gemma3Backbone({...presets[preset].config, ...override} as never);
    }
    const source = await openPreset(preset);
    const text = new TextDecoder().decode(await readAll(source, 'config.json'));
    const {config} = parseSerialized(text, `${source.name}/config.json`, 'Gemma3Backbone');
    const backbone = new Gemma3Backbone({...config, ...override} as never);
    if (!loadWeights) return backbone;
    try {
      await loadPresetWeights(backbone, source, {onProgress, signal});
    } catch (error) {
      backbone.dispose();
      throw error;
    }
    return backbone;
  }
}
tf.serialization.registerClass(Gemma3Backbone as never, 'tfjs-gemma3');

export type {ModelInputs};

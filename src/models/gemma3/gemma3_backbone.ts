/** Gemma 3 without its head: creates the layers, connects them, and loads presets. */
import * as tf from '@tensorflow/tfjs';
import {loraConfig, type LoraEntry, restoreLora} from '../../adapters/model_lora';
import {
  exportGgufAdapter,
  type ExportGgufOptions,
  exportPeftAdapter,
  type ExportPeftOptions,
  importPeftAdapter,
} from '../../adapters/on_demand';
import {chooseBackend} from '../../backends/choose_backend';
import {camelKeys} from '../../base/casing';
import {checkObject} from '../../base/checks';
import {checkKeys, OutOfMemoryError, ValueError} from '../../base/errors';
import {type JsonObject} from '../../base/json';
import {type FetchOptions} from '../../files/http_client';
import {type Checkpoint} from '../../checkpoints/checkpoint';
import {otherWeights} from '../../checkpoints/keras/on_demand';
import {loadPresetWeights} from '../../checkpoints/load_weights';
import {
  type CheckpointLike,
  refuseOpening,
  requestsOf,
  splitOpening,
  withCheckpoint,
} from '../../checkpoints/open_checkpoint';
import {type FileTarget} from '../../files/open_file';
import {type PresetTarget} from '../../files/open_folder';
import {type PresetLike} from '../../hub/open_preset';
import {registeredPreset} from '../../hub/registry';
import {defined, withAttributes} from '../../layers/arguments';
import {type Layer, registerLayer} from '../../layers/layer';
import {type QuantizationMode, quantizeLayers} from '../../layers/quantize';
import {type ReversibleEmbedding} from '../../layers/reversible_embedding';
import {type RMSNormalization} from '../../layers/rms_normalization';
import {type Dtype, parseDtype} from '../../weights/dtype';
import {type AnyWeight} from '../../weights/packed_weight';
import {
  Backbone,
  FROM_PRESET_OPTIONS,
  type FromPresetOptions,
  type ModelInputs,
  uniqueModelName,
  unpackConfig,
} from '../backbone';
import {copyState} from '../clone';
import {withDtypeThatFits} from '../memory';
import {registerPresetClass} from '../preset_classes';
import {type Gemma3DecoderBlock} from './gemma3_decoder_block';
import {type Gemma3InterleaveEmbeddings} from './gemma3_layers';
import {type Gemma3VisionEncoder} from './gemma3_vision_encoder';
import {
  BACKBONE_ARGUMENTS,
  BACKBONE_ATTRIBUTES,
  completeConfig,
  knownConfig,
  type Gemma3BackboneArgs,
  type Gemma3BackboneConfig,
  toVisionEncoder,
} from './parts/backbone_config';
import {connect, makeLayers} from './parts/backbone_layers';
import {type Multiply} from './parts/multiply';
import {checkOverrides} from './parts/preset_overrides';
import './names/register';

export type {Gemma3BackboneArgs, Gemma3BackboneConfig} from './parts/backbone_config';

/** Outputs of an embedding model: `backbone.predict<Gemma3EmbeddingOutputs>({token_ids, padding_mask})`. */
export type Gemma3EmbeddingOutputs = {
  /** Hidden states, (B, T, hiddenDim). */
  sequence_output: tf.Tensor3D;
  /** Embeddings normalized to length 1, (B, embeddingDim). */
  pooled_output: tf.Tensor2D;
};

/** Options of {@link Gemma3Backbone.fromPreset}: how to load, and arguments that override those of the preset. */
export type Gemma3BackboneOptions = Omit<FromPresetOptions, 'dtype'> & Partial<Gemma3BackboneArgs>;

/** The arguments that are attributes, too. */
type Attributes = Omit<Gemma3BackboneConfig, 'dtype' | 'trainable'>;

/**
 * Gemma 3 without its head: token ids in, hidden states out. As `keras_hub.models.Gemma3Backbone`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_backbone/); Gemma 3 Technical Report,
 * https://arxiv.org/abs/2503.19786.
 *
 * Inputs by name: `token_ids` int32 (B, T) and `padding_mask` int32 (B, T). With a vision encoder also `images` float32
 * (B, I, S, S, 3), `vision_indices` int32 (B, I · tokens per image) and `vision_mask` int32 (B, T).
 *
 * Output: hidden states (B, T, hiddenDim). With `isEmbeddingModel`, two outputs by name:
 * {@link Gemma3EmbeddingOutputs}.
 *
 * Weights have no values at first. Unless a file fills them, `predict` initializes all of them before it runs any layer,
 * and every other method those that it reads.
 *
 * @throws ValueError on unknown, missing, unusable or contradictory arguments.
 */
export class Gemma3Backbone extends withAttributes<typeof Backbone, Attributes>(Backbone, BACKBONE_ATTRIBUTES) {
  /** @nocollapse */
  static override className = 'Gemma3Backbone';
  readonly tokenEmbedding: ReversibleEmbedding;
  readonly visionEncoder: Gemma3VisionEncoder | null;
  readonly interleaveEmbeddings: Gemma3InterleaveEmbeddings | null;
  readonly transformerLayers: readonly Gemma3DecoderBlock[];
  readonly layerNorm: RMSNormalization;
  /** Pooling, two projections and normalization for an embedding model; empty for other models. */
  readonly embeddingHead: readonly Layer[];
  readonly config: Gemma3BackboneConfig;
  private readonly multiply: Multiply;

  constructor(args: Gemma3BackboneArgs) {
    checkObject('Gemma3Backbone', args);
    const given = camelKeys(unpackConfig(args)) as Partial<Gemma3BackboneArgs>;
    const config = completeConfig(given);
    const visionEncoder = toVisionEncoder(given.visionEncoder);
    if (visionEncoder && config.imageSize !== visionEncoder.config.imageSize) {
      throw new ValueError(
        `Gemma3Backbone expected the imageSize of its vision encoder, ${visionEncoder.config.imageSize}. ` +
          `Received: ${config.imageSize}.`,
      );
    }
    const layers = makeLayers(config, visionEncoder);
    const {inputs, outputs, order} = connect(layers);
    super({inputs, outputs, name: given.name ?? uniqueModelName('gemma3_backbone')});
    // tfjs names outputs after the layers that compute them; labels and losses use these names as well.
    if (config.isEmbeddingModel) this.outputNames = ['sequence_output', 'pooled_output'];
    this.tokenEmbedding = layers.tokenEmbedding;
    this.visionEncoder = visionEncoder;
    this.interleaveEmbeddings = layers.interleaveEmbeddings;
    this.transformerLayers = layers.transformerLayers;
    this.layerNorm = layers.layerNorm;
    this.embeddingHead = layers.embeddingHead;
    this.multiply = layers.multiply;
    this.config = config;
    this.setLayers(order, [layers.multiply]);
    if (!config.trainable) this.trainable = false;
  }

  get dtypePolicy(): Dtype {
    return parseDtype(this.config.dtype);
  }

  /** Number of embeddings that the vision encoder computes per image; 0 without one. */
  get numVisionTokensPerImage(): number {
    return this.visionEncoder?.numVisionTokensPerImage ?? 0;
  }

  /** True for a model without a vision encoder. */
  get textOnlyModel(): boolean {
    return this.visionEncoder === null;
  }

  /** Token ids (B, T) → embeddings (B, T, hiddenDim), as the first block takes them. */
  embedTokens(tokenIds: tf.Tensor): tf.Tensor {
    return tf.tidy(() => this.scaleEmbeddings(this.tokenEmbedding.call(tokenIds)));
  }

  /** Embeddings times √hiddenDim. */
  scaleEmbeddings(embeddings: tf.Tensor): tf.Tensor {
    return this.multiply.call(embeddings);
  }

  override defaultLoraLayerNames(): string[] {
    const vision = this.textOnlyModel ? [] : ['query_proj', 'value_proj'];
    return [...super.defaultLoraLayerNames(), ...vision];
  }

  /**
   * Saves LoRA as an adapter for Hugging Face's PEFT, for `Gemma3ForCausalLM` or, with vision,
   * `Gemma3ForConditionalGeneration`: `adapter_config.json` and `adapter_model.safetensors` in a folder. In Keras each
   * query, key and value head has its own first LoRA matrix; in PEFT all heads share one. With N heads, the rank in
   * PEFT is therefore N times as large. Trained biases are not saved.
   *
   * @throws ValueError without LoRA, on layers that PEFT cannot adapt this way (the embedding), and on unusable
   * options.
   */
  async exportPeftAdapter(target: PresetTarget, options: ExportPeftOptions = {}): Promise<void> {
    const {huggingFaceNames} = await import('./names/huggingface');
    await exportPeftAdapter(this, huggingFaceNames(this), target, options);
  }

  /**
   * Saves LoRA as an adapter for llama.cpp and programs based on it, in the form in which its converter writes PEFT
   * adapters. `loadLoraWeights` reads such files.
   *
   * @throws ValueError without LoRA, on LoRA in layers that llama.cpp does not adapt (embedding, vision encoder), and on
   * unknown options.
   */
  async exportGgufAdapter(target: FileTarget, options: ExportGgufOptions = {}): Promise<void> {
    await exportGgufAdapter(this, target, options);
  }

  /**
   * Loads a PEFT adapter from a folder or a URL. If LoRA is off, it is enabled for the layers of the adapter. In Keras
   * all heads share the second LoRA matrix, so with N query, key or value heads the rank here is N times as large as in
   * PEFT; all layers get the largest rank that one of them needs. An adapter from `exportPeftAdapter` gets its original
   * rank.
   *
   * Names of modules, also in `alpha_pattern` and `rank_pattern`, may be those of any version of transformers.
   *
   * @param options how to request its files, if it is at an http(s) address.
   * @throws ValueError on missing or damaged files, on layers that do not match, and on settings that make the adapter
   * more than two matrices per layer (DoRA, PiSSA and other initializations that change the base weights, trained
   * biases), or that are unknown, naming them. In these cases the model is unchanged.
   */
  async importPeftAdapter(source: PresetLike, options: FetchOptions = {}): Promise<void> {
    const {huggingFaceNames} = await import('./names/huggingface');
    await importPeftAdapter(this, huggingFaceNames(this), source, options);
  }

  /** @internal See `KnowsEnergies`. */
  async energySources(): Promise<ReadonlyMap<AnyWeight, number>> {
    return (await import('./parts/input_energies')).energySources(this);
  }

  /** @internal See `KnowsEnergies`. */
  async setEnergies(values: ReadonlyMap<AnyWeight, Float32Array>): Promise<void> {
    (await import('./parts/input_energies')).guessEnergies(this, values);
  }

  override async quantize(mode: QuantizationMode): Promise<void> {
    this.checkInUse();
    const layers = [this.tokenEmbedding, ...this.transformerLayers, this.layerNorm, ...this.embeddingHead];
    // Energies are computed from values: without values there are none.
    const prepares = mode === 'int4' && this.weights.every(weight => (weight as AnyWeight).filled);
    const prepare = async () => (await import('./parts/input_energies')).prepareOwnEnergies(this);
    await quantizeLayers(`Gemma3Backbone "${this.name}"`, layers, mode, prepares ? prepare : undefined);
    this.config.dtype = mode;
  }

  override getConfig(): tf.serialization.ConfigDict {
    // LoRA of the vision encoder is in the list of the backbone.
    const {lora: _, ...vision} = this.visionEncoder?.getConfig() ?? {};
    const visionEncoder = this.visionEncoder && {className: 'Gemma3VisionEncoder', config: vision};
    const lora = loraConfig(this);
    const config = {name: this.name, ...this.config, visionEncoder};
    return lora ? {...config, lora: lora.map(entry => ({...entry}))} : config;
  }

  /**
   * Creates a backbone from a result of `getConfig` or a configuration of Keras. Its weights have no values yet.
   *
   * @throws ValueError as the constructor does.
   */
  static override fromConfig(config: object): Gemma3Backbone;
  static override fromConfig<T extends tf.serialization.Serializable>(
    cls: tf.serialization.SerializableConstructor<T>,
    config: tf.serialization.ConfigDict,
  ): T;
  static override fromConfig(first: unknown, second?: unknown): unknown {
    // When tfjs loads a model, it passes the class as the first argument.
    const saved = (typeof first === 'function' ? second : first) as object;
    checkObject('Gemma3Backbone', saved);
    const given = unpackConfig(saved);
    const {lora, customObjects: _, ...config} = given as {lora?: LoraEntry[]; customObjects?: unknown};
    const backbone = new Gemma3Backbone(config as Gemma3BackboneArgs);
    if (lora) restoreLora(backbone, lora);
    return backbone;
  }

  override clone(): Gemma3Backbone {
    this.checkInUse();
    const copy = Gemma3Backbone.fromConfig(this.getConfig());
    copyState(this, copy);
    return copy;
  }

  /**
   * Loads a backbone with the weights of a preset: a folder that KerasHub saved, an http(s) URL of one, or the name of
   * the preset in the package. With `loadWeights: false`, any name of {@link Gemma3Backbone.presets} works. If the
   * program has chosen no backend so far, the best one is selected, as by `useBackend()`.
   *
   * @param options also arguments of the class, which override those of the preset. `visionEncoder: null` loads the
   * text model of a preset for text and images.
   * @throws ValueError on unknown options, on arguments that contradict the weights, and if files are missing, unknown
   * or do not match the configuration; an OutOfMemoryError, naming a dtype that would fit, if memory is too small; an
   * Error if files are truncated or the server fails; the signal's reason when aborted. In these cases no part of the
   * model stays in memory.
   */
  static override async fromPreset(
    preset: CheckpointLike,
    options: Gemma3BackboneOptions = {},
  ): Promise<Gemma3Backbone> {
    checkKeys('fromPreset', options, [...new Set([...FROM_PRESET_OPTIONS, ...BACKBONE_ARGUMENTS])]);
    const {opening, rest} = splitOpening(options);
    const {loadWeights = true, weights, onProgress, signal, ...given} = rest;
    const overrides = defined(given);
    if (weights !== undefined && !loadWeights) {
      throw new ValueError('fromPreset expected either `weights` or `loadWeights: false`. Received both.');
    }
    signal?.throwIfAborted();
    const registered = typeof preset === 'string' ? registeredPreset(preset) : undefined;
    // The preset itself is not read.
    const nameOnly = registered !== undefined && (!loadWeights || weights !== undefined);
    const load = async (config: JsonObject, stored: Pick<Checkpoint, 'name' | 'weights'>, http: FetchOptions) => {
      await chooseBackend();
      const build = (changes: object) => Gemma3Backbone.fromConfig({...camelKeys(config), ...changes});
      const backbone = build(overrides);
      if (!loadWeights) return backbone;
      const whole = overrides.visionEncoder === null ? build({}) : undefined;
      try {
        checkOverrides(config, backbone, stored.name);
        const from =
          weights === undefined ? stored : await otherWeights(stored.name, weights, {...http, signal}, nameOnly);
        await loadPresetWeights(backbone, from, {onProgress, signal, whole});
      } catch (error) {
        const reported =
          error instanceof OutOfMemoryError
            ? withDtypeThatFits(error, backbone, dtype => build({...overrides, dtype}))
            : error;
        backbone.dispose();
        throw reported;
      } finally {
        whole?.dispose();
      }
      return backbone;
    };
    if (nameOnly) {
      await refuseOpening(preset as string, weights === undefined ? opening : {mmproj: opening.mmproj});
      return load(registered.config as JsonObject, {name: preset as string, weights: neverRead}, opening);
    }
    return withCheckpoint(
      preset,
      async checkpoint => {
        const saved = (await checkpoint.config('backbone', 'Gemma3Backbone'))!;
        return load(knownConfig(saved.config, checkpoint.name), checkpoint, requestsOf(checkpoint));
      },
      {...opening, signal},
    );
  }
}

const neverRead = (): never => {
  throw new Error('internal: read the weights of a preset of which only the name is used.');
};

registerLayer(Gemma3Backbone);
registerPresetClass(Gemma3Backbone, 'Gemma3Backbone');

export type {ModelInputs};

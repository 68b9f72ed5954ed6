/** Gemma 3 for text generation: the backbone with its head, scoring, training, and presets. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument, checkArguments} from '../../base/checks';
import {describeNotA, show, ValueError} from '../../base/errors';
import {type Checkpoint} from '../../checkpoints/checkpoint';
import {exportModel, type ExportOptions} from '../../checkpoints/huggingface/on_demand';
import {savePreset, type SaveToPresetOptions} from '../../checkpoints/keras/on_demand';
import {type CheckpointLike, refuseOpening, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {type PresetTarget} from '../../files/open_folder';
import {type ImageTokens, type NewTokens, type StepsAhead} from '../../generation/decoder';
import {type CacheDtype} from '../../generation/kv_cache';
import {checked, finish, Pace} from '../../generation/turns';
import {registeredPreset} from '../../hub/registry';
import {
  firstShape,
  firstTensor,
  Layer,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../layers/layer';
import {type ReversibleEmbedding} from '../../layers/reversible_embedding';
import {type TokenChoice} from '../../ops/token_program';
import {type Stage} from '../../training/stages';
import {uniqueModelName, unpackConfig} from '../backbone';
import {CausalLM} from '../causal_lm';
import {registerPresetClass} from '../preset_classes';
import {type TaskOptions, taskOptions} from '../task_options';
import {Gemma3Backbone} from './gemma3_backbone';
import {Gemma3CausalLMPreprocessor} from './gemma3_causal_lm_preprocessor';
import {BACKBONE_ARGUMENTS} from './parts/backbone_config';
import {allBlockSteps} from './parts/block_steps';
import {Gemma3Cache} from './parts/cache';
import {type GenerationInputs} from './parts/prompt_rows';
import {score, type ScoreArgs} from './parts/score';
import {gemma3Stages} from './parts/stages';
import {tokenSteps} from './parts/token_steps';

/** Arguments of {@link Gemma3CausalLM}. */
export interface Gemma3CausalLMArgs {
  /** The model shares the weights of the backbone, and does not free them while the backbone is used elsewhere. */
  backbone: Gemma3Backbone;
  /** Turns strings into token ids and back. Null, the default: the model takes and returns token ids. */
  preprocessor?: Gemma3CausalLMPreprocessor | null;
  /** Name of the model. Defaults to "gemma3_causal_lm", with a number appended from the second one on. */
  name?: string;
  /**
   * How the keys and values of texts are stored while they are generated. "bfloat16" takes half the memory and may
   * change a text. Defaults to "float32".
   */
  cacheDtype?: CacheDtype;
}

/** Options of {@link Gemma3CausalLM.fromPreset}. */
export interface Gemma3CausalLMOptions
  extends TaskOptions<Gemma3Backbone, Gemma3CausalLMPreprocessor>, Pick<Gemma3CausalLMArgs, 'cacheDtype'> {}

/**
 * Replaces the embeddings of image tokens in x (B, T, D) with the embeddings of the parts that they stand for.
 * `Gemma3InterleaveEmbeddings` does not fit here: it takes whole prompts, but x is a piece of each prompt, and its
 * images were encoded before.
 */
function putParts(x: tf.Tensor3D, {embeddings, parts}: ImageTokens): tf.Tensor3D {
  const [batch, length, width] = x.shape;
  const rows = batch * length;
  // Text embeddings and image parts in one tensor, so that one gather can take rows from both.
  const sources = parts.flatMap((row, i) => row.map((part, t) => (part < 0 ? i * length + t : rows + part)));
  const both = tf.concat([tf.reshape(x, [rows, width]), embeddings], 0);
  return tf.reshape(tf.gather(both, tf.tensor1d(sources, 'int32')), x.shape);
}

/**
 * The head: the embedding, reversed. It is a separate layer because a tfjs graph cannot pass the argument `reverse` to
 * the embedding. It has no weights: the matrix belongs to the embedding.
 */
class Logits extends Layer {
  static className = 'ReversibleEmbedding';
  constructor(private readonly embedding: ReversibleEmbedding) {
    super({name: embedding.name});
  }
  override call(inputs: TensorOrTensors): tf.Tensor {
    return this.embedding.call(firstTensor(inputs), {reverse: true});
  }
  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [...firstShape(inputShape).slice(0, -1), this.embedding.inputDim];
  }
  override countParams(): number {
    return this.embedding.countParams();
  }
  override getConfig(): tf.serialization.ConfigDict {
    throw new ValueError(
      `The layer "${this.name}" after the last norm of a Gemma3CausalLM shares the weights of the first layer, which ` +
        'a tfjs graph cannot keep. Save the Gemma3CausalLM itself, or end your model at the hidden states.',
    );
  }
}

/**
 * Gemma 3 for text generation: token ids in, logits out, `generate` and `stream`. As `keras_hub.models.Gemma3CausalLM`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_causal_lm/).
 *
 * Inputs as in {@link Gemma3Backbone}; output: logits (B, T, vocabularySize).
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3CausalLM extends CausalLM<GenerationInputs, Gemma3Cache> {
  /** @nocollapse */
  static override className = 'Gemma3CausalLM';
  readonly backbone: Gemma3Backbone;
  /** How keys and values are stored: see {@link Gemma3CausalLMArgs}. */
  readonly cacheDtype: CacheDtype;
  preprocessor: Gemma3CausalLMPreprocessor | null;
  /**
   * The token ids that `stopTokenIds: 'auto'` of `generate` stands for. Null, the default: `<eos>` and `<end_of_turn>`.
   * Others come from the generation_config.json of a Hugging Face folder.
   */
  stopTokenIds: readonly number[] | null = null;
  private readonly pace = new Pace();

  constructor(args: Gemma3CausalLMArgs) {
    checkArguments('Gemma3CausalLM', args, ['backbone', 'preprocessor', 'name', 'cacheDtype']);
    const {backbone, preprocessor = null, cacheDtype = 'float32'} = args;
    checkArgument('Gemma3CausalLM', 'cacheDtype', cacheDtype, 'cacheDtype');
    if (!(backbone instanceof Gemma3Backbone)) {
      throw new ValueError(
        'Gemma3CausalLM expected a Gemma3Backbone as `backbone`. Received: ' +
          `${describeNotA(Gemma3Backbone, backbone)}.`,
      );
    }
    if (backbone.config.isEmbeddingModel) {
      throw new ValueError(
        'Gemma3CausalLM expected a backbone whose only output is hidden states. Received: a backbone with ' +
          'isEmbeddingModel: true. Create a Gemma3TextEmbedder from it.',
      );
    }
    if (preprocessor !== null && !(preprocessor instanceof Gemma3CausalLMPreprocessor)) {
      throw new ValueError(
        'Gemma3CausalLM expected a Gemma3CausalLMPreprocessor as `preprocessor`, or null. ' +
          `Received: ${describeNotA(Gemma3CausalLMPreprocessor, preprocessor)}.`,
      );
    }
    if (args.name != null) checkArgument('Gemma3CausalLM', 'name', args.name, 'text');
    const hidden = backbone.apply(backbone.inputs) as tf.SymbolicTensor;
    const outputs = new Logits(backbone.tokenEmbedding).apply(hidden) as tf.SymbolicTensor;
    super({inputs: backbone.inputs, outputs, name: args.name ?? uniqueModelName('gemma3_causal_lm')});
    this.backbone = backbone;
    this.cacheDtype = cacheDtype;
    this.preprocessor = preprocessor;
  }

  newCache(batch: number, maxLength: number, slack?: number): Gemma3Cache {
    this.checkInUse();
    return new Gemma3Cache(this.backbone, batch, maxLength, slack, this.cacheDtype);
  }

  encodeImages(images: tf.Tensor4D): tf.Tensor2D {
    return tf.tidy(() => finish(this.encodeSteps(images)));
  }

  /** One step for each layer of the vision encoder. */
  override *encodeSteps(images: tf.Tensor4D): Generator<void, tf.Tensor2D> {
    this.checkInUse();
    const {visionEncoder} = this.backbone;
    if (!visionEncoder) {
      throw new ValueError(
        `Expected text only: ${this.name} has no vision encoder. Received: images [${images.shape}].`,
      );
    }
    const batch = tf.expandDims(images, 0);
    try {
      const parts = yield* visionEncoder.steps(batch);
      const flat = tf.reshape(parts, [-1, parts.shape.at(-1)!]) as tf.Tensor2D;
      parts.dispose();
      return flat;
    } finally {
      batch.dispose();
    }
  }

  hiddenStates(tokens: NewTokens, cache: Gemma3Cache): tf.Tensor3D {
    return tf.tidy(() => finish(this.hiddenSteps(tokens, cache, false)));
  }

  /**
   * The embedding and each block, in steps of a few tokens.
   *
   * @param divided false for steps of whole blocks, which are slightly faster in total.
   */
  override *hiddenSteps(tokens: NewTokens, cache: Gemma3Cache, divided = true): Generator<void, tf.Tensor3D> {
    this.checkInUse();
    // Other code may run after each step.
    return yield* checked(this.blocks(tokens, cache, divided ? this.pace : null), () => this.checkInUse());
  }

  private *blocks(tokens: NewTokens, cache: Gemma3Cache, pace: Pace | null): Generator<void, tf.Tensor3D> {
    const {x, visionMask} = this.embedded(tokens);
    try {
      return yield* allBlockSteps(
        this.backbone.transformerLayers,
        x,
        {caches: cache.blocks, counts: tokens.counts, visionMask, firstWanted: tokens.firstWanted},
        pace,
      );
    } finally {
      visionMask?.dispose();
    }
  }

  /**
   * Embeddings (B, T, D) of tokens, with those of images inserted, and a mask of the tokens that stand for parts of
   * images.
   */
  private embedded({rows, images}: NewTokens): {x: tf.Tensor3D; visionMask?: tf.Tensor} {
    return tf.tidy(() => {
      const [batch, length] = [rows.length, rows[0]!.length];
      const {backbone} = this;
      const tokenIds = tf.tensor2d(rows as number[][], [batch, length], 'int32');
      const x = backbone.embedTokens(tokenIds) as tf.Tensor3D;
      if (!images) return {x};
      const mask = images.parts.map(row => row.map(part => Number(part >= 0)));
      return {x: putParts(x, images), visionMask: tf.tensor2d(mask, [batch, length], 'int32')};
    });
  }

  logits(hidden: tf.Tensor2D): tf.Tensor2D {
    const {tokenEmbedding} = this.backbone;
    return tf.tidy(() => tokenEmbedding.call(this.finalStates(hidden), {reverse: true}) as tf.Tensor2D);
  }

  finalStates(hidden: tf.Tensor2D): tf.Tensor2D {
    return this.backbone.layerNorm.call(hidden) as tf.Tensor2D;
  }

  /** @internal */
  override tokensAhead(choice: TokenChoice, rows: number): StepsAhead<Gemma3Cache> | undefined {
    this.checkInUse();
    return tokenSteps(this.backbone, choice, rows);
  }

  /**
   * Scores given tokens, as `score` of `keras_hub.models.GemmaCausalLM`: returns logits (B, T, V), or with
   * `scoringMode: 'loss'` the loss −log p of each target, (B, T). Images are not supported.
   *
   * It is synchronous and returns a tensor, so gradients can be taken through it.
   *
   * @example
   * let embeddings!: tf.Tensor;
   * const args = {tokenIds, targetIds, scoringMode: 'loss'} as const;
   * lm.score({...args, layerInterceptFn: (x, i) => (i === -1 ? (embeddings = tf.keep(x)) : x)}).dispose();
   * const lossOf = (given: tf.Tensor) => lm.score({...args, layerInterceptFn: (x, i) => (i === -1 ? given : x)});
   * const gradients = tf.grad(lossOf)(embeddings);
   *
   * @throws ValueError on unknown or unusable arguments, and when `layerInterceptFn` returns another shape.
   */
  score(args: ScoreArgs): tf.Tensor {
    this.checkInUse();
    return score(this.backbone, args);
  }

  // === Training ===

  trainingStages(inputs: Record<string, tf.Tensor>, dropout: string | null): Stage[] {
    return gemma3Stages(this.backbone, inputs, dropout);
  }

  get headWeights(): readonly tf.LayerVariable[] {
    const {layerNorm, tokenEmbedding} = this.backbone;
    return [...layerNorm.weights, ...tokenEmbedding.weights];
  }

  get head(): ReversibleEmbedding {
    return this.backbone.tokenEmbedding;
  }

  protected autoStopTokenIds(): number[] {
    if (this.stopTokenIds) return [...this.stopTokenIds];
    const {tokenizer} = this.preprocessor!;
    const endOfTurn = tokenizer.tokenToId('<end_of_turn>');
    // If the vocabulary has no turn tokens, `endOfTurn` is the id of unknown pieces, which must not end a text.
    return tokenizer.idToToken(endOfTurn) === '<end_of_turn>'
      ? [tokenizer.endTokenId, endOfTurn]
      : [tokenizer.endTokenId];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      name: this.name,
      backbone: {className: 'Gemma3Backbone', config: this.backbone.getConfig()},
      preprocessor: (this.preprocessor?.getConfig() ?? null) as tf.serialization.ConfigDictValue,
    };
  }

  /**
   * Creates a model from a result of `getConfig`. Its weights have no values yet. It has no preprocessor, since the
   * tokenizer is a file.
   *
   * @throws ValueError on any other configuration.
   */
  static override fromConfig(config: object): Gemma3CausalLM;
  static override fromConfig<T extends tf.serialization.Serializable>(
    cls: tf.serialization.SerializableConstructor<T>,
    config: tf.serialization.ConfigDict,
  ): T;
  static override fromConfig(first: unknown, second?: unknown): unknown {
    const config = unpackConfig((typeof first === 'function' ? second : first) as object);
    const {name, backbone} = config as {name?: string; backbone?: {config?: object}};
    if (!backbone?.config) {
      throw new ValueError(
        `Expected the configuration of a Gemma3CausalLM, with its backbone. Received: ${show(config)}.`,
      );
    }
    const created = Gemma3Backbone.fromConfig(backbone.config);
    try {
      return new Gemma3CausalLM({backbone: created, ...(name && {name})});
    } finally {
      created.dispose(); // the model keeps its own reference
    }
  }

  /** An independent model with the same values, preprocessor and sampler: see {@link Backbone.clone}. */
  clone(): Gemma3CausalLM {
    this.checkInUse();
    const backbone = this.backbone.clone();
    const {preprocessor, name, cacheDtype} = this;
    const copy = new Gemma3CausalLM({backbone, preprocessor, name, cacheDtype});
    backbone.dispose(); // the copy keeps its own reference
    copy.sampler = this.sampler;
    copy.stopTokenIds = this.stopTokenIds;
    return copy;
  }

  /**
   * Saves the model with its preprocessor, as KerasHub does: see {@link Backbone.saveToPreset}.
   *
   * @throws as {@link Backbone.saveToPreset}.
   */
  async saveToPreset(target: PresetTarget, options: SaveToPresetOptions = {}): Promise<void> {
    this.checkInUse();
    await savePreset(target, options, writer => writer.task(this));
  }

  /**
   * Saves the model as a Hugging Face folder, for transformers: see {@link Backbone.exportToTransformers}. With a
   * preprocessor, the folder also has the tokenizer with Gemma's chat template, and the image processor of a model with
   * vision.
   *
   * @throws as {@link Backbone.exportToTransformers}.
   */
  async exportToTransformers(target: PresetTarget, options: ExportOptions = {}): Promise<void> {
    this.checkInUse();
    await exportModel(target, options, {backbone: this.backbone, task: this});
  }

  /**
   * Loads a model with the weights and the preprocessor of a preset: see {@link Gemma3Backbone.fromPreset}. With
   * `preprocessor: null` it takes and returns token ids. With `loadWeights: false`, any name of
   * {@link Gemma3CausalLM.presets} works; such a model reads no files, so it has no preprocessor unless you pass one.
   *
   * @param options also arguments of the class, which override those of the preset.
   * @throws as {@link Gemma3Backbone.fromPreset}, and a ValueError if the preprocessor's files are missing or unusable.
   */
  static override async fromPreset(
    preset: CheckpointLike,
    options: Gemma3CausalLMOptions = {},
  ): Promise<Gemma3CausalLM> {
    const {loading, opening, args} = taskOptions('Gemma3CausalLM', options, ['cacheDtype'], BACKBONE_ARGUMENTS);
    const {backbone, ...rest} = args;
    const load = async (from: CheckpointLike) => backbone ?? Gemma3Backbone.fromPreset(from, loading);
    const around = (loaded: Gemma3Backbone, preprocessor: Gemma3CausalLMPreprocessor | null) => {
      try {
        return new Gemma3CausalLM({...rest, backbone: loaded, preprocessor});
      } finally {
        // The model keeps its own reference. A backbone that the caller passed is still owned by the caller.
        if (loaded !== backbone) loaded.dispose();
      }
    };
    const registered = typeof preset === 'string' && registeredPreset(preset) !== undefined;
    if (registered && loading.loadWeights === false) {
      await refuseOpening(preset, opening);
      return around(await load(preset), rest.preprocessor ?? null);
    }
    return withCheckpoint(
      preset,
      async checkpoint => {
        const {preprocessor = await Gemma3CausalLMPreprocessor.fromPreset(checkpoint)} = rest;
        // Ids are meaningless in a different vocabulary.
        const stops = rest.preprocessor === undefined ? await storedStops(checkpoint) : null;
        const model = around(await load(checkpoint), preprocessor);
        model.stopTokenIds = stops;
        return model;
      },
      opening,
    );
  }
}
registerLayer(Gemma3CausalLM);

/** The tokens that end a text, if the checkpoint has others than Gemma's. */
async function storedStops(checkpoint: Checkpoint): Promise<number[] | null> {
  const ids = (await checkpoint.config('task'))?.stop_token_ids;
  return Array.isArray(ids) && ids.every(id => Number.isSafeInteger(id)) ? (ids as number[]) : null;
}

registerPresetClass(Gemma3CausalLM, 'Gemma3Backbone');

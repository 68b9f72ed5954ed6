/** Gemma 3 for text embeddings: the backbone with pooling and normalization, and presets. */
import * as tf from '@tensorflow/tfjs';
import {camelKeys} from '../../base/casing';
import {checkArgument, checkArguments} from '../../base/checks';
import {describeNotA, show, ValueError} from '../../base/errors';
import {isObject} from '../../base/json';
import {type Checkpoint} from '../../checkpoints/checkpoint';
import {exportModel, type ExportOptions} from '../../checkpoints/huggingface/on_demand';
import {type TaskDetails} from '../../checkpoints/keras/objects';
import {savePreset, type SaveToPresetOptions} from '../../checkpoints/keras/on_demand';
import {type CheckpointLike, refuseOpening, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {type PresetTarget} from '../../files/open_folder';
import {registeredPreset} from '../../hub/registry';
import {
  firstShape,
  type Kwargs,
  Layer,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../layers/layer';
import {UnitNormalization} from '../../layers/unit_normalization';
import {uniqueModelName, unpackConfig} from '../backbone';
import {registerPresetClass} from '../preset_classes';
import {type TaskOptions, taskOptions} from '../task_options';
import {type EmbedderPrompts, TextEmbedder} from '../text_embedder';
import {Gemma3Backbone} from './gemma3_backbone';
import {Gemma3MeanPooling, pooledInputs, weightedSum} from './gemma3_layers';
import {Gemma3TextEmbedderPreprocessor} from './gemma3_text_embedder_preprocessor';
import {BACKBONE_ARGUMENTS} from './parts/backbone_config';

/** How the hidden states of a text become one vector: "last" takes the state of its last token, "mean" their mean. */
export type PoolingMode = 'last' | 'mean';

/** How a text's hidden states become its embedding. */
export interface PoolingArgs {
  /**
   * How hidden states become one vector. Defaults to "last". Unused if the backbone has `isEmbeddingModel`, and so its
   * own pooling.
   */
  poolingMode?: PoolingMode;
  /** Normalize vectors to length 1. Defaults to true. */
  normalize?: boolean;
}

/** Arguments of {@link Gemma3TextEmbedder}. */
export interface Gemma3TextEmbedderArgs extends PoolingArgs {
  /** The model shares the weights of the backbone, and does not free them while the backbone is used elsewhere. */
  backbone: Gemma3Backbone;
  /** Turns texts into token ids. Null, the default: the model takes token ids. */
  preprocessor?: Gemma3TextEmbedderPreprocessor | null;
  /** Name of the model. Defaults to "gemma3_text_embedder", with a number appended from the second one on. */
  name?: string;
}

const OWNER = 'Gemma3TextEmbedder';

/**
 * The hidden state of the last token that is not padding. KerasHub uses operations of the graph for this, not a layer.
 */
class LastTokenPooling extends Layer {
  static className = 'LastTokenPooling';
  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const [hidden, mask] = pooledInputs(OWNER, inputs);
      const places = tf.mul(tf.range(1, mask.shape[1] + 1), tf.cast(mask, 'float32')); // (B, T), 0 for padding
      const last = tf.logicalAnd(tf.equal(places, tf.max(places, 1, true)), tf.greater(places, 0));
      return weightedSum(tf.cast(last, 'float32'), hidden);
    });
  }
  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    const shape = firstShape(inputShape);
    return [...shape.slice(0, -2), shape.at(-1)!];
  }
}

/**
 * Gemma 3 for text embeddings: token ids in, one vector per text out. As `keras_hub.models.Gemma3TextEmbedder`
 * (https://github.com/keras-team/keras-hub/tree/master/keras_hub/src/models/gemma3).
 *
 * Inputs as in {@link Gemma3Backbone}; output: (B, hiddenDim), or (B, embeddingDim) for an embedding model.
 *
 * @example
 * const embedder = await Gemma3TextEmbedder.fromPreset('gemma3_tiny', {poolingMode: 'mean'});
 * const [queries, documents] = [await embedder.encodeText('capital'), await embedder.encodeText(['Paris', 'Mars'])];
 * embedder.similarity(queries, documents).print();
 *
 * @throws ValueError on unknown, unusable or contradictory arguments.
 */
export class Gemma3TextEmbedder extends TextEmbedder {
  /** @nocollapse */
  static override className = 'Gemma3TextEmbedder';
  readonly backbone: Gemma3Backbone;
  preprocessor: Gemma3TextEmbedderPreprocessor | null;
  readonly poolingMode: PoolingMode;
  readonly normalize: boolean;

  constructor(args: Gemma3TextEmbedderArgs) {
    checkArguments(OWNER, args, ['backbone', 'preprocessor', 'poolingMode', 'normalize', 'name']);
    const {backbone, preprocessor = null, poolingMode = 'last', normalize = true} = args;
    if (!(backbone instanceof Gemma3Backbone)) {
      throw new ValueError(
        `${OWNER} expected a Gemma3Backbone as \`backbone\`. Received: ${describeNotA(Gemma3Backbone, backbone)}.`,
      );
    }
    if (preprocessor !== null && !(preprocessor instanceof Gemma3TextEmbedderPreprocessor)) {
      throw new ValueError(
        `${OWNER} expected a Gemma3TextEmbedderPreprocessor as \`preprocessor\`, or null. ` +
          `Received: ${describeNotA(Gemma3TextEmbedderPreprocessor, preprocessor)}.`,
      );
    }
    if (poolingMode !== 'last' && poolingMode !== 'mean') {
      throw new ValueError(
        `${OWNER} expected \`poolingMode\` to be "last" or "mean". Received: poolingMode=${show(poolingMode)}.`,
      );
    }
    checkArgument(OWNER, 'normalize', normalize, 'flag');
    if (args.name != null) checkArgument(OWNER, 'name', args.name, 'text');
    super({
      inputs: backbone.inputs,
      outputs: pooledOutput(backbone, poolingMode, normalize),
      name: args.name ?? uniqueModelName('gemma3_text_embedder'),
    });
    this.backbone = backbone;
    this.preprocessor = preprocessor;
    this.poolingMode = poolingMode;
    this.normalize = normalize;
  }

  protected textInputs(tokenIds: tf.Tensor2D, paddingMask: tf.Tensor2D): Record<string, tf.Tensor> {
    const inputs = {token_ids: tokenIds, padding_mask: paddingMask};
    const {visionEncoder} = this.backbone;
    if (!visionEncoder) return inputs;
    const [batch] = tokenIds.shape;
    const size = visionEncoder.config.imageSize;
    return {
      ...inputs,
      images: tf.zeros([batch, 0, size, size, 3]),
      vision_indices: tf.zeros([batch, 0], 'int32'),
      vision_mask: tf.zeros(tokenIds.shape, 'int32'),
    };
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      name: this.name,
      backbone: {className: 'Gemma3Backbone', config: this.backbone.getConfig()},
      preprocessor: (this.preprocessor?.getConfig() ?? null) as tf.serialization.ConfigDictValue,
      poolingMode: this.poolingMode,
      normalize: this.normalize,
    };
  }

  /**
   * Creates a model from a result of `getConfig` or a configuration of Keras. Its weights have no values yet. It has no
   * preprocessor, since the tokenizer is a file.
   *
   * @throws ValueError on any other configuration.
   */
  static override fromConfig(config: object): Gemma3TextEmbedder;
  static override fromConfig<T extends tf.serialization.Serializable>(
    cls: tf.serialization.SerializableConstructor<T>,
    config: tf.serialization.ConfigDict,
  ): T;
  static override fromConfig(first: unknown, second?: unknown): unknown {
    const config = camelKeys(unpackConfig((typeof first === 'function' ? second : first) as object));
    const {backbone, preprocessor: _, ...rest} = config as {backbone?: {config?: object}; preprocessor?: unknown};
    if (!backbone?.config) {
      throw new ValueError(`Expected the configuration of a ${OWNER}, with its backbone. Received: ${show(config)}.`);
    }
    return around(Gemma3Backbone.fromConfig(backbone.config), rest);
  }

  /**
   * Saves the model with its preprocessor, as KerasHub does: see {@link Backbone.saveToPreset}.
   *
   * @throws as {@link Backbone.saveToPreset}.
   */
  async saveToPreset(target: PresetTarget, options: SaveToPresetOptions = {}): Promise<void> {
    this.checkInUse();
    await savePreset(target, options, writer => writer.task(this, this.taskDetails));
  }

  /** How the files of this task differ from those of a language model. */
  private get taskDetails(): TaskDetails {
    const config = {pooling_mode: this.poolingMode, normalize: this.normalize};
    return {preprocessorClass: 'Gemma3TextEmbedderPreprocessor', config};
  }

  /**
   * Saves the model in the layout of sentence-transformers, as Google publishes EmbeddingGemma: see
   * {@link Backbone.exportToTransformers}. KerasHub cannot do this.
   *
   * @throws as {@link Backbone.exportToTransformers}.
   */
  async exportToTransformers(target: PresetTarget, options: ExportOptions = {}): Promise<void> {
    this.checkInUse();
    await exportModel(target, options, {backbone: this.backbone, task: this, details: this.taskDetails});
  }

  /** An independent model with the same values and preprocessor: see {@link Backbone.clone}. */
  clone(): Gemma3TextEmbedder {
    const {preprocessor, poolingMode, normalize, name, prompts, defaultPromptName} = this;
    const copy = around(this.backbone.clone(), {preprocessor, poolingMode, normalize, name});
    return Object.assign(copy, {prompts, defaultPromptName});
  }

  /**
   * Loads a model with the weights and the preprocessor of a preset, of an embedding model or any other: see
   * {@link Gemma3Backbone.fromPreset}. With `loadWeights: false`, any name of {@link Gemma3TextEmbedder.presets} works;
   * such a model reads no files, so it has no preprocessor unless you pass one.
   *
   * @param options also arguments of the class, which override those of the preset.
   * @throws as {@link Gemma3Backbone.fromPreset}, and a ValueError if the preprocessor's files are missing or unusable.
   */
  static override async fromPreset(
    preset: CheckpointLike,
    options: Omit<TaskOptions<Gemma3Backbone, Gemma3TextEmbedderPreprocessor>, 'mmproj'> & PoolingArgs = {},
  ): Promise<Gemma3TextEmbedder> {
    const own = ['poolingMode', 'normalize'];
    // An embedder has no image input.
    const {loading, opening, args} = taskOptions(OWNER, options, own, BACKBONE_ARGUMENTS, ['mmproj']);
    const {backbone, ...rest} = args;
    const create = async (from: CheckpointLike, others: Omit<Gemma3TextEmbedderArgs, 'backbone'>) =>
      backbone
        ? new Gemma3TextEmbedder({...others, ...rest, backbone})
        : around(await Gemma3Backbone.fromPreset(from, loading), {...others, ...rest});
    const registered = typeof preset === 'string' && registeredPreset(preset) !== undefined;
    if (registered && loading.loadWeights === false) {
      await refuseOpening(preset, opening);
      return create(preset, {});
    }
    return withCheckpoint(
      preset,
      async checkpoint => {
        const {pooling: stored, prompts} = await storedTask(checkpoint);
        const {preprocessor = await Gemma3TextEmbedderPreprocessor.fromPreset(checkpoint)} = rest;
        return Object.assign(await create(checkpoint, {...stored, preprocessor}), prompts);
      },
      opening,
    );
  }
}
registerLayer(Gemma3TextEmbedder);
registerPresetClass(Gemma3TextEmbedder, 'Gemma3Backbone');

/** Connects pooling and normalization to the backbone, and returns their output. */
function pooledOutput(backbone: Gemma3Backbone, poolingMode: PoolingMode, normalize: boolean): tf.SymbolicTensor {
  const {isEmbeddingModel} = backbone.config;
  if (isEmbeddingModel && !normalize) {
    throw new ValueError(
      `${OWNER} expected \`normalize\` to be true: a backbone with isEmbeddingModel normalizes its embeddings itself. ` +
        'Received: normalize=false. Pass true, or leave it out.',
    );
  }
  const hidden = backbone.apply(backbone.inputs) as tf.SymbolicTensor | tf.SymbolicTensor[];
  if (isEmbeddingModel) return (hidden as tf.SymbolicTensor[])[1]!;
  const paddingMask = backbone.inputs[backbone.inputNames.indexOf('padding_mask')]!;
  const pooling =
    poolingMode === 'mean'
      ? new Gemma3MeanPooling({name: 'mean_pooling'})
      : new LastTokenPooling({name: 'last_token_pooling'});
  const pooled = pooling.apply([hidden as tf.SymbolicTensor, paddingMask]) as tf.SymbolicTensor;
  return normalize ? (new UnitNormalization({name: 'unit_normalization'}).apply(pooled) as tf.SymbolicTensor) : pooled;
}

/** Creates a model that has the only reference to its backbone. On unusable arguments the backbone is disposed. */
function around(backbone: Gemma3Backbone, args: Omit<Gemma3TextEmbedderArgs, 'backbone'>): Gemma3TextEmbedder {
  try {
    return new Gemma3TextEmbedder({...args, backbone});
  } finally {
    backbone.dispose();
  }
}

/** The pooling options and prompts of a preset of an embedder; none for presets of other tasks. */
async function storedTask(checkpoint: Checkpoint): Promise<{pooling: PoolingArgs; prompts: Partial<EmbedderPrompts>}> {
  const task = await checkpoint.config('task');
  if (task?.class_name !== OWNER) return {pooling: {}, prompts: {}};
  const {poolingMode = 'last', normalize = true} = camelKeys(task.config) as PoolingArgs;
  const {prompts, default_prompt_name: name} = task;
  const texts = isObject(prompts) && Object.values(prompts).every(text => typeof text === 'string');
  return {
    pooling: {poolingMode, normalize},
    prompts: texts
      ? {
          prompts: prompts as Record<string, string>,
          defaultPromptName: typeof name === 'string' && Object.hasOwn(prompts, name) ? name : null,
        }
      : {},
  };
}

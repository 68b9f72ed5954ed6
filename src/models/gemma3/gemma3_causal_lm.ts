/** Gemma 3 for text generation: the backbone with its head, scoring, training, and presets. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument, checkArguments} from '../../base/checks';
import {checkKeys, describeNotA, show, ValueError} from '../../base/errors';
import {savePreset, type SaveToPresetOptions} from '../../checkpoints/keras/write_preset';
import {type CheckpointLike, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {type PresetTarget} from '../../files/open_folder';
import {type ImageTokens, type NewTokens} from '../../generation/decoder';
import {type PresetEntry} from '../../hub/registry';
import {
  firstShape,
  firstTensor,
  Layer,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../layers/layer';
import {type ReversibleEmbedding} from '../../layers/reversible_embedding';
import {headLoss} from '../../ops/head_loss';
import {loraHeadLoss} from '../../ops/lora_head_loss';
import {tokenLoss} from '../../ops/token_loss';
import {type Stage} from '../../training/stages';
import {PackedWeight} from '../../weights/packed_weight';
import {FROM_PRESET_OPTIONS, type FromPresetOptions, uniqueModelName, unpackConfig} from '../backbone';
import {CausalLM} from '../causal_lm';
import {Gemma3Backbone} from './gemma3_backbone';
import {Gemma3CausalLMPreprocessor, type PromptsAndResponses} from './gemma3_causal_lm_preprocessor';
import {Gemma3Cache} from './parts/cache';
import {score, type ScoreArgs} from './parts/score';
import {gemma3Stages} from './parts/stages';

/** Arguments of {@link Gemma3CausalLM}. */
export interface Gemma3CausalLMArgs {
  /** The model shares the weights of the backbone, and does not free them while the backbone is used elsewhere. */
  backbone: Gemma3Backbone;
  /** Turns strings into token ids and back. Null, the default: the model takes and returns token ids. */
  preprocessor?: Gemma3CausalLMPreprocessor | null;
  /** Name of the model. Defaults to "gemma3_causal_lm", with a number appended from the second one on. */
  name?: string;
}

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
}

/**
 * Gemma 3 for text generation: token ids in, logits out, `generate` and `stream`. As `keras_hub.models.Gemma3CausalLM`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_causal_lm/).
 *
 * Inputs as in {@link Gemma3Backbone}; output: logits (B, T, vocabularySize).
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3CausalLM extends CausalLM<string | readonly string[] | PromptsAndResponses, Gemma3Cache> {
  /** @nocollapse */
  static override className = 'Gemma3CausalLM';
  readonly backbone: Gemma3Backbone;
  preprocessor: Gemma3CausalLMPreprocessor | null;

  constructor(args: Gemma3CausalLMArgs) {
    checkArguments('Gemma3CausalLM', args, ['backbone', 'preprocessor', 'name']);
    const {backbone, preprocessor = null} = args;
    if (!(backbone instanceof Gemma3Backbone)) {
      throw new ValueError(
        `Gemma3CausalLM expected a Gemma3Backbone as \`backbone\`. Received: ${describeNotA(Gemma3Backbone, backbone)}.`,
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
    this.preprocessor = preprocessor;
  }

  newCache(batch: number, maxLength: number, slack?: number): Gemma3Cache {
    return new Gemma3Cache(this.backbone, batch, maxLength, slack);
  }

  encodeImages(images: tf.Tensor4D): tf.Tensor2D {
    const {visionEncoder} = this.backbone;
    if (!visionEncoder) {
      throw new ValueError(
        `Expected text only: ${this.name} has no vision encoder. Received: images [${images.shape}].`,
      );
    }
    return tf.tidy(() => {
      const parts = visionEncoder.call(tf.expandDims(images, 0));
      return tf.reshape(parts, [-1, parts.shape.at(-1)!]) as tf.Tensor2D;
    });
  }

  hiddenStates({rows, counts, images}: NewTokens, cache: Gemma3Cache): tf.Tensor3D {
    return tf.tidy(() => {
      const [batch, length] = [rows.length, rows[0]!.length];
      const {backbone} = this;
      const tokenIds = tf.tensor2d(rows as number[][], [batch, length], 'int32');
      let x = backbone.embedTokens(tokenIds); // (B, T, D)
      let visionMask: tf.Tensor | undefined;
      if (images) {
        x = putParts(x as tf.Tensor3D, images);
        const mask = images.parts.map(row => row.map(part => Number(part >= 0)));
        visionMask = tf.tensor2d(mask, [batch, length], 'int32');
      }
      backbone.transformerLayers.forEach((block, i) => {
        const next = block.call(x, {cache: cache.blocks[i]!, counts, visionMask});
        x.dispose();
        x = next;
      });
      return x as tf.Tensor3D;
    });
  }

  logits(hidden: tf.Tensor2D): tf.Tensor2D {
    const {tokenEmbedding} = this.backbone;
    return tf.tidy(() => tokenEmbedding.call(this.finalStates(hidden), {reverse: true}) as tf.Tensor2D);
  }

  finalStates(hidden: tf.Tensor2D): tf.Tensor2D {
    return this.backbone.layerNorm.call(hidden) as tf.Tensor2D;
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

  tokenLosses(hidden: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D {
    const {embeddings, logitSoftCap: softCap, loraMatrices, loraScale: scale} = this.backbone.tokenEmbedding;
    const table = embeddings instanceof PackedWeight ? embeddings : (embeddings.read() as tf.Tensor2D);
    return tf.tidy(() => {
      const states = this.finalStates(hidden);
      if (!loraMatrices) return headLoss(states, table, targets, {softCap});
      // `loraHeadLoss` has no gradient for the table, which a user may have unfrozen.
      if (embeddings.trainable) return tokenLoss(this.logits(hidden), targets) as tf.Tensor1D;
      const [a, b] = [loraMatrices.a.read(), loraMatrices.b.read()];
      return loraHeadLoss(states, table, {a, b, scale}, targets, {softCap});
    });
  }

  protected autoStopTokenIds(): number[] {
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
    const backbone = this.backbone.clone();
    const copy = new Gemma3CausalLM({backbone, preprocessor: this.preprocessor, name: this.name});
    backbone.dispose(); // the copy keeps its own reference
    copy.sampler = this.sampler;
    return copy;
  }

  /**
   * Saves the model with its preprocessor, as KerasHub does: see {@link Backbone.saveToPreset}.
   *
   * @throws as {@link Backbone.saveToPreset}.
   */
  async saveToPreset(target: PresetTarget, options: SaveToPresetOptions = {}): Promise<void> {
    await savePreset(target, options, writer => writer.task(this));
  }

  /** All presets that KerasHub publishes, by name. */
  static get presets(): Readonly<Record<string, PresetEntry>> {
    return Gemma3Backbone.presets;
  }

  /**
   * Loads a model with the weights and the preprocessor of a preset: see {@link Gemma3Backbone.fromPreset}. With
   * `preprocessor: null` it takes and returns token ids. With `loadWeights: false`, any name of
   * {@link Gemma3CausalLM.presets} works; such a model reads no files, so it has no preprocessor unless you pass one.
   *
   * @throws as {@link Gemma3Backbone.fromPreset}, and a ValueError if the preprocessor's files are missing or unusable.
   */
  static async fromPreset(
    preset: CheckpointLike,
    options: FromPresetOptions & {preprocessor?: Gemma3CausalLMPreprocessor | null} = {},
  ): Promise<Gemma3CausalLM> {
    checkKeys('fromPreset', options, [...FROM_PRESET_OPTIONS, 'preprocessor']);
    const {preprocessor: given, ...rest} = options;
    const registered = typeof preset === 'string' && Object.hasOwn(Gemma3Backbone.presets, preset);
    const nameOnly = registered && rest.loadWeights === false;
    if (nameOnly) return around(await Gemma3Backbone.fromPreset(preset, rest), given ?? null);
    return withCheckpoint(preset, async checkpoint => {
      const preprocessor = given === undefined ? await Gemma3CausalLMPreprocessor.fromPreset(checkpoint) : given;
      return around(await Gemma3Backbone.fromPreset(checkpoint, rest), preprocessor);
    });
  }
}
registerLayer(Gemma3CausalLM);

/** Creates a model that has the only reference to its backbone. On unusable arguments the backbone is disposed. */
function around(backbone: Gemma3Backbone, preprocessor: Gemma3CausalLMPreprocessor | null): Gemma3CausalLM {
  try {
    return new Gemma3CausalLM({backbone, preprocessor});
  } finally {
    backbone.dispose();
  }
}

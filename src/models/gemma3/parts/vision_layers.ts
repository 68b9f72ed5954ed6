/** Layers of the vision encoder's transformer, SigLIP: https://arxiv.org/abs/2303.15343. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../../base/errors';
import {type ArgumentTable, completeArguments, namesOf, type OwnArgs, withAttributes} from '../../../layers/arguments';
import {Dense} from '../../../layers/dense';
import {Embedding} from '../../../layers/embedding';
import {
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  Layer,
  type LayerArgs,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../../layers/layer';
import {LayerNormalization} from '../../../layers/layer_normalization';
import {attention, type AttentionInputs, attentionWithDropout} from '../../../ops/attention';
import {gelu} from '../../../ops/gated_gelu';
import {replaced} from '../../../ops/op';
import {fusedVision} from './fused_vision';
import {PatchConv2D} from './patch_conv';

/** @throws ValueError unless the width is divisible by the number of heads. */
export function checkHeads(owner: string, hiddenDim: number, numHeads: number): void {
  if (hiddenDim % numHeads !== 0) {
    throw new ValueError(
      `${owner} expected hiddenDim to be divisible by numHeads. ` +
        `Received: hiddenDim=${hiddenDim}, numHeads=${numHeads}.`,
    );
  }
}

/**
 * Number of patches along a side of an image.
 *
 * @throws ValueError if an image is smaller than a patch.
 */
export function gridSize(owner: string, imageSize: number, patchSize: number): number {
  if (patchSize > imageSize) {
    throw new ValueError(
      `${owner} expected patchSize to be at most imageSize. Received: patchSize=${patchSize}, imageSize=${imageSize}.`,
    );
  }
  return Math.floor(imageSize / patchSize);
}

export interface Gemma3VisionEmbeddingArgs extends LayerArgs {
  /** Height and width of an image. */
  imageSize: number;
  /** Height and width of the squares of pixels that become one patch. */
  patchSize: number;
  /** Width of the result. */
  hiddenDim: number;
  /** Number of channels of an image. Defaults to 3. */
  numChannels?: number;
}

const EMBEDDING_ARGUMENTS = {
  imageSize: ['size'],
  patchSize: ['size'],
  hiddenDim: ['size'],
  numChannels: ['size', 3],
} satisfies ArgumentTable<OwnArgs<Gemma3VisionEmbeddingArgs>>;

/** Patches of images plus learned positions. (B, S, S, 3) → (B, patches, hiddenDim). */
export class Gemma3VisionEmbedding extends withAttributes<typeof Layer, Required<OwnArgs<Gemma3VisionEmbeddingArgs>>>(
  Layer,
  namesOf(EMBEDDING_ARGUMENTS),
) {
  /** @nocollapse */
  static className = 'Gemma3VisionEmbedding';
  readonly patchEmbedding: PatchConv2D;
  readonly positionEmbedding: Embedding;
  readonly numPatches: number;
  readonly config: Required<OwnArgs<Gemma3VisionEmbeddingArgs>>;

  /** Number of learned positions, one per patch. */
  get numPositions(): number {
    return this.numPatches;
  }

  constructor(args: Gemma3VisionEmbeddingArgs) {
    super(checkedArgs('Gemma3VisionEmbedding', args, namesOf(EMBEDDING_ARGUMENTS)));
    this.config = completeArguments('Gemma3VisionEmbedding', args, EMBEDDING_ARGUMENTS);
    const {imageSize, patchSize, hiddenDim} = this.config;
    this.numPatches = gridSize('Gemma3VisionEmbedding', imageSize, patchSize) ** 2;
    const dtype = this.dtypePolicy.name;
    this.patchEmbedding = this.addSublayer(
      'patch_embedding',
      new PatchConv2D({filters: hiddenDim, patchSize, dtype, name: 'embedding_conv'}),
    );
    this.positionEmbedding = this.addSublayer(
      'position_embedding',
      new Embedding({inputDim: this.numPatches, outputDim: hiddenDim, dtype, name: 'position_embedding'}),
    );
  }

  override build(_inputShape?: ShapeOrShapes): void {
    const {imageSize, numChannels} = this.config;
    this.patchEmbedding.build([null, imageSize, imageSize, numChannels]);
    this.positionEmbedding.build();
    this.built = true;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    // The embeddings of all positions in order are the table itself.
    return tf.tidy(() => {
      const patches = this.patchEmbedding.call(inputs);
      return replaced(patches, tf.add(patches, this.positionEmbedding.table()));
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [firstShape(inputShape)[0] ?? null, this.numPatches, this.config.hiddenDim];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3VisionEmbedding);

/** Largest number of attention logits at a time. They take 128 MB, and the plain implementation needs a few copies. */
const MAX_LOGITS = 1 << 25;

/**
 * Attention without a mask, computed for a few queries at a time: the 4,096 patches of an image have 270 million
 * logits.
 *
 * q, k, v: (B, T, N, H) → (B, T, N, H).
 */
export function visionAttention(
  q: tf.Tensor4D,
  k: tf.Tensor4D,
  v: tf.Tensor4D,
  dropout = 0,
  maxLogits = MAX_LOGITS,
): tf.Tensor4D {
  return tf.tidy(() => {
    const [batch, length, heads, headDim] = q.shape;
    const keyPositions = tf.reshape(tf.range(0, length, 1, 'int32'), [1, length]) as tf.Tensor2D;
    const attrs = {scale: 1 / Math.sqrt(headDim), logitSoftCap: null, window: null, bidirectional: true};
    const attend = (inputs: AttentionInputs) =>
      dropout > 0 ? attentionWithDropout(inputs, attrs, dropout) : attention(inputs, attrs);

    const rows = Math.max(1, Math.floor(maxLogits / (batch * heads * length)));
    if (rows >= length) return attend({q, k, v, queryPositions: keyPositions, keyPositions});
    const parts: tf.Tensor4D[] = [];
    for (let first = 0; first < length; first += rows) {
      const count = Math.min(rows, length - first);
      const queryPositions = tf.slice(keyPositions, [0, first], [1, count]);
      const some = tf.slice(q, [0, first, 0, 0], [batch, count, heads, headDim]);
      parts.push(attend({q: some, k, v, queryPositions, keyPositions}));
    }
    return tf.concat(parts, 1);
  });
}

/** Attention with numbers that are added to the logits, computed for all queries at once. */
function attentionWithMask(
  [q, k, v]: readonly [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D],
  mask: tf.Tensor,
  dropout: number,
): tf.Tensor {
  const [queries, keys, values] = [q, k, v].map(x => tf.transpose(x, [0, 2, 1, 3])) as [
    tf.Tensor,
    tf.Tensor,
    tf.Tensor,
  ];
  const logits = tf.div(tf.matMul(queries, keys, false, true), Math.sqrt(q.shape[3]));
  const probabilities = tf.softmax(tf.add(logits, tf.cast(mask, 'float32')));
  const kept = dropout > 0 ? tf.dropout(probabilities, dropout) : probabilities;
  return tf.transpose(tf.matMul(kept, values), [0, 2, 1, 3]);
}

/** Options of a call of the layers of the vision encoder that contain attention. */
export interface VisionCallArgs extends Kwargs {
  /** Whether dropout is applied. Defaults to false. */
  training?: boolean;
  /** Added to the attention logits, (B, N, T, T) or a shape that broadcasts to it. */
  attentionMask?: tf.Tensor;
}

export interface Gemma3VisionAttentionArgs extends LayerArgs {
  /** Width of the input and of the result. */
  hiddenDim: number;
  /** Number of heads; divides `hiddenDim`. */
  numHeads: number;
  /** Rate of dropout on attention probabilities while training. Defaults to 0. */
  dropout?: number;
}

const ATTENTION_ARGUMENTS = {
  hiddenDim: ['size'],
  numHeads: ['size'],
  dropout: ['rate', 0],
} satisfies ArgumentTable<OwnArgs<Gemma3VisionAttentionArgs>>;

/**
 * Multi-head attention without positions. (B, T, hiddenDim) → (B, T, hiddenDim). KerasHub's layer also returns the
 * attention probabilities; here they are never held as a whole.
 */
export class Gemma3VisionAttention extends withAttributes<typeof Layer, Required<OwnArgs<Gemma3VisionAttentionArgs>>>(
  Layer,
  namesOf(ATTENTION_ARGUMENTS),
) {
  /** @nocollapse */
  static className = 'Gemma3VisionAttention';
  readonly queryProj: Dense;
  readonly keyProj: Dense;
  readonly valueProj: Dense;
  readonly outProj: Dense;
  readonly config: Required<OwnArgs<Gemma3VisionAttentionArgs>>;

  /** Width of a head. */
  get headDim(): number {
    return this.hiddenDim / this.numHeads;
  }
  /** Factor of attention logits: 1/√headDim. */
  get scale(): number {
    return 1 / Math.sqrt(this.headDim);
  }

  constructor(args: Gemma3VisionAttentionArgs) {
    super(checkedArgs('Gemma3VisionAttention', args, namesOf(ATTENTION_ARGUMENTS)));
    this.config = completeArguments('Gemma3VisionAttention', args, ATTENTION_ARGUMENTS);
    const {hiddenDim, numHeads} = this.config;
    checkHeads('Gemma3VisionAttention', hiddenDim, numHeads);
    const projection = (name: string) =>
      this.addSublayer(name, new Dense({units: hiddenDim, dtype: this.dtypePolicy.name, name}));
    this.queryProj = projection('query_proj');
    this.keyProj = projection('key_proj');
    this.valueProj = projection('value_proj');
    this.outProj = projection('out_proj');
  }

  override build(_inputShape?: ShapeOrShapes): void {
    for (const layer of this.children) layer.build([null, null, this.config.hiddenDim]);
    this.built = true;
  }

  override call(inputs: TensorOrTensors, kwargs: VisionCallArgs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const [batch, length] = x.shape as [number, number];
      const {hiddenDim, numHeads, dropout} = this.config;
      const heads = (layer: Dense) =>
        tf.reshape(layer.call(x), [batch, length, numHeads, hiddenDim / numHeads]) as tf.Tensor4D;
      const qkv = [heads(this.queryProj), heads(this.keyProj), heads(this.valueProj)] as const;
      const rate = kwargs.training ? dropout : 0;
      const attended = kwargs.attentionMask
        ? attentionWithMask(qkv, kwargs.attentionMask, rate)
        : visionAttention(...qkv, rate);
      return this.outProj.call(tf.reshape(attended, [batch, length, hiddenDim]));
    });
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3VisionAttention);

export interface Gemma3VisionEncoderLayerArgs extends LayerArgs {
  /** Number of attention heads; divides the width of the input. */
  numHeads: number;
  /** Width of the feed-forward network. */
  intermediateDim: number;
  /** Epsilon of both norms. Defaults to 1e-6. */
  layerNormEpsilon?: number;
}

const LAYER_ARGUMENTS = {
  numHeads: ['size'],
  intermediateDim: ['size'],
  layerNormEpsilon: ['positive', 1e-6],
} satisfies ArgumentTable<OwnArgs<Gemma3VisionEncoderLayerArgs>>;

/**
 * One layer of the encoder: attention and a feed-forward network, each after a norm and with a residual connection.
 *
 * (B, T, D) → (B, T, D).
 */
export class Gemma3VisionEncoderLayer extends withAttributes<
  typeof Layer,
  Required<OwnArgs<Gemma3VisionEncoderLayerArgs>>
>(Layer, namesOf(LAYER_ARGUMENTS)) {
  /** @nocollapse */
  static className = 'Gemma3VisionEncoderLayer';
  attn!: Gemma3VisionAttention;
  layerNorm1!: LayerNormalization;
  mlpDense1!: Dense;
  mlpDense2!: Dense;
  layerNorm2!: LayerNormalization;
  readonly config: Required<OwnArgs<Gemma3VisionEncoderLayerArgs>>;

  constructor(args: Gemma3VisionEncoderLayerArgs) {
    super(checkedArgs('Gemma3VisionEncoderLayer', args, namesOf(LAYER_ARGUMENTS)));
    this.config = completeArguments('Gemma3VisionEncoderLayer', args, LAYER_ARGUMENTS);
  }

  override build(inputShape: ShapeOrShapes): void {
    const hiddenDim = firstShape(inputShape).at(-1)!;
    const {numHeads, intermediateDim, layerNormEpsilon: epsilon} = this.config;
    const dtype = this.dtypePolicy.name;
    const norm = (name: string) => this.addSublayer(name, new LayerNormalization({epsilon, dtype, name}));
    const dense = (name: string, units: number) => this.addSublayer(name, new Dense({units, dtype, name}));
    this.attn = this.addSublayer(
      'attn',
      new Gemma3VisionAttention({hiddenDim, numHeads, dtype, name: 'multi_head_attention'}),
    );
    this.layerNorm1 = norm('layer_norm_1');
    this.mlpDense1 = dense('mlp_dense_1', intermediateDim);
    this.mlpDense2 = dense('mlp_dense_2', hiddenDim);
    this.layerNorm2 = norm('layer_norm_2');
    for (const layer of this.children) {
      layer.build([null, null, layer === this.mlpDense2 ? intermediateDim : hiddenDim]);
    }
    this.built = true;
  }

  override call(inputs: TensorOrTensors, kwargs: VisionCallArgs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const fused = kwargs.attentionMask ? undefined : fusedVision(this, x);
      if (fused) return fused;
      const attended = tf.add(x, this.attn.call(this.layerNorm1.call(x), kwargs));
      const inner = gelu(this.mlpDense1.call(this.layerNorm2.call(attended)));
      return tf.add(attended, this.mlpDense2.call(inner));
    });
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3VisionEncoderLayer);

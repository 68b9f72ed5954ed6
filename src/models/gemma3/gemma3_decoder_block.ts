import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {type KvCache} from '../../generation/kv_cache';
import {EinsumDense} from '../../layers/einsum_dense';
import {
  checkedArgs,
  firstShape,
  type Kwargs,
  Layer,
  type LayerArgs,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../layers/layer';
import {RMSNormalization} from '../../layers/rms_normalization';
import {dropoutSeed} from '../../ops/attention';
import {gatedGelu} from '../../ops/gated_gelu';
import {imageNumbers} from '../../ops/image_numbers';
import {checkGemma3Arguments} from './parts/arguments';
import {CachedGemma3Attention} from './gemma3_attention';
import {fusedStep} from './parts/fused_step';

export interface Gemma3DecoderBlockArgs extends LayerArgs {
  /** Width of the hidden state. */
  hiddenDim: number;
  /** Width of the feed-forward network, before `gateDimReduction`. */
  intermediateDim: number;
  /** Width of a head, even. */
  headDim: number;
  /** Number of query heads. */
  numQueryHeads: number;
  /** Number of key and value heads; divides `numQueryHeads`. */
  numKeyValueHeads: number;
  /** Scale queries by 1/√headDim (true, the default) or by 1/√(hiddenDim // numQueryHeads). */
  queryHeadDimNormalize?: boolean;
  /** Normalize queries and keys before they turn. Defaults to false. */
  useQueryKeyNorm?: boolean;
  /** Normalize after the feed-forward network. Defaults to false. */
  usePostFfwNorm?: boolean;
  /** Normalize after attention. Defaults to false. */
  usePostAttentionNorm?: boolean;
  /** The gates have width `intermediateDim // gateDimReduction`. 2 in Gemma and Gemma 2 and by default, 1 in Gemma 3. */
  gateDimReduction?: number;
  /** Soft cap on attention logits. Null, the default: none. */
  logitSoftCap?: number | null;
  /** Let tokens see a window of keys alone. Defaults to false. */
  useSlidingWindowAttention?: boolean;
  /** Keys at this distance or further are not seen. Defaults to 4096. */
  slidingWindowSize?: number;
  /** Epsilon of all norms of the block. Defaults to 1e-6. */
  layerNormEpsilon?: number;
  /** Longest wavelength of rotary positions. Defaults to 10,000, as in blocks with a window; others have 1,000,000. */
  ropeWavelength?: number;
  /** Positions are divided by this. Defaults to 1. */
  ropeScalingFactor?: number;
  /** Let tokens see what comes after them: embedding models. Defaults to false. */
  useBidirectionalAttention?: boolean;
  /** Rate of dropout while training. Defaults to 0. */
  dropout?: number;
}

const KNOWN = [
  'hiddenDim',
  'intermediateDim',
  'headDim',
  'numQueryHeads',
  'numKeyValueHeads',
  'queryHeadDimNormalize',
  'useQueryKeyNorm',
  'usePostFfwNorm',
  'usePostAttentionNorm',
  'gateDimReduction',
  'logitSoftCap',
  'useSlidingWindowAttention',
  'slidingWindowSize',
  'layerNormEpsilon',
  'ropeWavelength',
  'ropeScalingFactor',
  'useBidirectionalAttention',
  'dropout',
] as const;

export interface BlockCallArgs extends Kwargs {
  /** Whether dropout is at work. Defaults to false. */
  training?: boolean;
  /** What drops out: the same for the same seed. Without one it differs each time. */
  seed?: number | string;
  /** Keys and values of tokens seen before; the new ones are added. */
  cache?: KvCache;
  /** With a cache, and only then: how many of the T tokens of each row are real. Defaults to all. */
  counts?: readonly number[];
  /** int32 (B, T), as the third input: with a cache there is no padding mask before it. */
  visionMask?: tf.Tensor;
}

/**
 * One layer of the decoder, as KerasHub's `Gemma3DecoderBlock`: attention and a gated feed-forward network, each between
 * norms and beside a residual.
 *
 * Called with x (B, T, D), [x, paddingMask (B, T)] or [x, paddingMask, visionMask (B, T)] → (B, T, D). Tokens of one run
 * of `visionMask` see each other in both directions.
 *
 * @throws ValueError on unknown, missing, unusable or contradictory arguments, of the constructor and of a call.
 */
export class Gemma3DecoderBlock extends Layer {
  /** @nocollapse */
  static className = 'Gemma3DecoderBlock';
  readonly preAttentionNorm: RMSNormalization;
  readonly postAttentionNorm?: RMSNormalization;
  readonly attention: CachedGemma3Attention;
  readonly preFfwNorm: RMSNormalization;
  readonly postFfwNorm?: RMSNormalization;
  readonly gatingFfw: EinsumDense;
  readonly gatingFfw2: EinsumDense;
  readonly ffwLinear: EinsumDense;
  readonly config: Required<Omit<Gemma3DecoderBlockArgs, keyof LayerArgs>>;

  constructor(args: Gemma3DecoderBlockArgs) {
    super(checkedArgs('Gemma3DecoderBlock', args, KNOWN));
    const {hiddenDim, intermediateDim} = args;
    const gateDimReduction = args.gateDimReduction ?? 2;
    const c = (this.config = {
      hiddenDim,
      intermediateDim,
      headDim: args.headDim,
      numQueryHeads: args.numQueryHeads,
      numKeyValueHeads: args.numKeyValueHeads,
      queryHeadDimNormalize: args.queryHeadDimNormalize ?? true,
      useQueryKeyNorm: args.useQueryKeyNorm ?? false,
      usePostFfwNorm: args.usePostFfwNorm ?? false,
      usePostAttentionNorm: args.usePostAttentionNorm ?? false,
      gateDimReduction,
      logitSoftCap: args.logitSoftCap ?? null,
      useSlidingWindowAttention: args.useSlidingWindowAttention ?? false,
      slidingWindowSize: args.slidingWindowSize ?? 4096,
      layerNormEpsilon: args.layerNormEpsilon ?? 1e-6,
      ropeWavelength: args.ropeWavelength ?? 10_000,
      ropeScalingFactor: args.ropeScalingFactor ?? 1,
      useBidirectionalAttention: args.useBidirectionalAttention ?? false,
      dropout: args.dropout ?? 0,
    });
    checkGemma3Arguments('Gemma3DecoderBlock', c);

    const dtype = this.dtypePolicy.name;
    const norm = (name: string) =>
      this.addSublayer(name, new RMSNormalization({epsilon: c.layerNormEpsilon, dtype, name}));
    const dense = (attribute: string, name: string, equation: string, width: number) =>
      this.addSublayer(attribute, new EinsumDense({equation, outputShape: [null, width], dtype, name}));
    this.preAttentionNorm = norm('pre_attention_norm');
    if (c.usePostAttentionNorm) this.postAttentionNorm = norm('post_attention_norm');
    this.attention = this.addSublayer(
      'attention',
      new CachedGemma3Attention({
        headDim: c.headDim,
        numQueryHeads: c.numQueryHeads,
        numKeyValueHeads: c.numKeyValueHeads,
        logitSoftCap: c.logitSoftCap,
        useSlidingWindowAttention: c.useSlidingWindowAttention,
        slidingWindowSize: c.slidingWindowSize,
        queryHeadDimNormalize: c.queryHeadDimNormalize,
        useQueryKeyNorm: c.useQueryKeyNorm,
        layerNormEpsilon: c.layerNormEpsilon,
        ropeWavelength: c.ropeWavelength,
        ropeScalingFactor: c.ropeScalingFactor,
        useBidirectionalAttention: c.useBidirectionalAttention,
        dropout: c.dropout,
        dtype,
        name: 'attention',
      }),
    );
    this.preFfwNorm = norm('pre_ffw_norm');
    if (c.usePostFfwNorm) this.postFfwNorm = norm('post_ffw_norm');
    const width = Math.floor(intermediateDim / gateDimReduction);
    this.gatingFfw = dense('gating_ffw', 'ffw_gating', 'btd,df->btf', width);
    this.gatingFfw2 = dense('gating_ffw_2', 'ffw_gating_2', 'btd,df->btf', width);
    this.ffwLinear = dense('ffw_linear', 'ffw_linear', 'btf,fd->btd', hiddenDim);
  }

  override build(inputShape: ShapeOrShapes): void {
    const shape = firstShape(inputShape);
    if (shape.at(-1) !== this.config.hiddenDim) {
      throw new ValueError(
        `Gemma3DecoderBlock "${this.name}" expected an input (batch, length, ${this.config.hiddenDim}). ` +
          `Received: [${shape}].`,
      );
    }
    for (const layer of this.children) {
      layer.build(layer === this.ffwLinear ? this.gatingFfw.computeOutputShape(shape) : shape);
    }
    this.built = true;
  }

  override call(inputs: TensorOrTensors, kwargs: BlockCallArgs = {}): tf.Tensor {
    return tf.tidy(() => {
      const [x, paddingMask, visionMask = kwargs.visionMask] = [inputs].flat() as [tf.Tensor, tf.Tensor?, tf.Tensor?];
      const {cache, counts = cache?.lengths.map(() => x.shape[1]!)} = kwargs;
      const step = cache && !paddingMask && !visionMask && fusedStep(this, x, cache, counts!);
      if (step) return step;
      const numbers = visionMask ? imageNumbers(visionMask) : undefined;

      let y = this.attention.call(this.preAttentionNorm.call(x), {...kwargs, paddingMask, imageNumbers: numbers});
      if (this.postAttentionNorm) y = this.postAttentionNorm.call(y);
      // KerasHub drops out here and on attention probabilities, but not behind the feed-forward network.
      if (kwargs.training && this.config.dropout > 0) {
        y = tf.dropout(y, this.config.dropout, undefined, dropoutSeed(kwargs.seed, 1));
      }
      const attended = tf.add(x, y);

      const normed = this.preFfwNorm.call(attended);
      y = this.ffwLinear.call(gatedGelu(this.gatingFfw.call(normed), this.gatingFfw2.call(normed)));
      if (this.postFfwNorm) y = this.postFfwNorm.call(y);
      return tf.add(attended, y);
    });
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3DecoderBlock);

/** A layer of Gemma 3's decoder. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {type KvCache} from '../../generation/kv_cache';
import {
  type ArgumentTable,
  completeArguments,
  namesOf,
  type OwnArgs,
  pick,
  withAttributes,
} from '../../layers/arguments';
import {EinsumDense} from '../../layers/einsum_dense';
import {
  checkedArgs,
  firstShape,
  type Kwargs,
  Layer,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../layers/layer';
import {RMSNormalization} from '../../layers/rms_normalization';
import {dropoutSeed} from '../../ops/attention';
import {gatedGelu} from '../../ops/gated_gelu';
import {imageNumbers} from '../../ops/image_numbers';
import {replaced} from '../../ops/op';
import {ATTENTION_ARGUMENTS, CachedGemma3Attention, type CachedGemma3AttentionArgs} from './gemma3_attention';
import {checkAttentionHeads} from './parts/attention_heads';
import {fusedFeedForward} from './parts/fused_feed_forward';
import {fusedStep} from './parts/fused_step';
import {type Int8Kernel} from './parts/int8_kernels';

/** Arguments of {@link Gemma3DecoderBlock}. */
export interface Gemma3DecoderBlockArgs extends Omit<CachedGemma3AttentionArgs, 'kernelInitializer'> {
  /** Width of the hidden state. */
  hiddenDim: number;
  /** Width of the feed-forward network, before `gateDimReduction`. */
  intermediateDim: number;
  /** Normalize after the feed-forward network. Defaults to false. */
  usePostFfwNorm?: boolean;
  /** Normalize after attention. Defaults to false. */
  usePostAttentionNorm?: boolean;
  /**
   * The gates have width `intermediateDim // gateDimReduction`. Defaults to 2, as in Gemma and Gemma 2; Gemma 3 has 1.
   */
  gateDimReduction?: number;
  /** Epsilon of all norms of the block. Defaults to 1e-6. */
  layerNormEpsilon?: number;
  /** Longest wavelength of rotary positions. Defaults to 10,000; Gemma 3 has 1,000,000 in blocks without a window. */
  ropeWavelength?: number;
  /** Rate of dropout while training. Defaults to 0. */
  dropout?: number;
}

const ARGUMENTS = {
  hiddenDim: ['size'],
  intermediateDim: ['size'],
  ...ATTENTION_ARGUMENTS,
  usePostFfwNorm: ['flag', false],
  usePostAttentionNorm: ['flag', false],
  gateDimReduction: ['size', 2],
} satisfies ArgumentTable<OwnArgs<Gemma3DecoderBlockArgs>>;

/** Options of a call of {@link Gemma3DecoderBlock}. */
export interface BlockCallArgs extends Kwargs {
  /** Whether dropout is applied. Defaults to false. */
  training?: boolean;
  /** Seed of dropout. Without a seed, each call drops different values. */
  seed?: number | string;
  /** Keys and values of tokens seen before; the new ones are added. */
  cache?: KvCache;
  /** Only with a cache: how many of the T tokens of each row are real. Defaults to all. */
  counts?: readonly number[];
  /** int32 (B, T), instead of the third input: with a cache there is no second input, the padding mask. */
  visionMask?: tf.Tensor;
}

/**
 * One layer of the decoder, as KerasHub's `Gemma3DecoderBlock`: attention and a gated feed-forward network, each
 * between norms and with a residual connection.
 *
 * Called with x (B, T, D), [x, paddingMask (B, T)] or [x, paddingMask, visionMask (B, T)] → (B, T, D). Consecutive
 * tokens that `visionMask` marks see each other in both directions.
 *
 * @throws ValueError on unknown, missing, unusable or contradictory arguments of the constructor or a call.
 */
export class Gemma3DecoderBlock extends withAttributes<typeof Layer, Required<OwnArgs<Gemma3DecoderBlockArgs>>>(
  Layer,
  namesOf(ARGUMENTS),
) {
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
  readonly config: Required<OwnArgs<Gemma3DecoderBlockArgs>>;

  constructor(args: Gemma3DecoderBlockArgs) {
    super(checkedArgs('Gemma3DecoderBlock', args, namesOf(ARGUMENTS)));
    const c = (this.config = completeArguments('Gemma3DecoderBlock', args, ARGUMENTS));
    checkAttentionHeads('Gemma3DecoderBlock', c);

    const dtype = this.dtypePolicy.name;
    const norm = (name: string) =>
      this.addSublayer(name, new RMSNormalization({epsilon: c.layerNormEpsilon, dtype, name}));
    const dense = (attribute: string, name: string, equation: string, width: number) =>
      this.addSublayer(attribute, new EinsumDense({equation, outputShape: [null, width], dtype, name}));
    this.preAttentionNorm = norm('pre_attention_norm');
    if (c.usePostAttentionNorm) this.postAttentionNorm = norm('post_attention_norm');
    this.attention = this.addSublayer(
      'attention',
      new CachedGemma3Attention({...pick(c, namesOf(ATTENTION_ARGUMENTS)), dtype, name: 'attention'}),
    );
    this.preFfwNorm = norm('pre_ffw_norm');
    if (c.usePostFfwNorm) this.postFfwNorm = norm('post_ffw_norm');
    const width = Math.floor(c.intermediateDim / c.gateDimReduction);
    this.gatingFfw = dense('gating_ffw', 'ffw_gating', 'btd,df->btf', width);
    this.gatingFfw2 = dense('gating_ffw_2', 'ffw_gating_2', 'btd,df->btf', width);
    this.ffwLinear = dense('ffw_linear', 'ffw_linear', 'btf,fd->btd', c.hiddenDim);
  }

  /** @internal Stores these kernels as int8 if the dtype is "int4". Called before `build`. */
  storeAsInt8(kernels: readonly Int8Kernel[]): void {
    this.attention.int8Kernels = kernels;
    if (kernels.includes('up')) this.gatingFfw2.int4Format = 'int8';
    if (kernels.includes('down')) this.ffwLinear.int4Format = 'int8';
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

      const input = this.preAttentionNorm.call(x);
      const y = this.attention.call(input, {...kwargs, paddingMask, imageNumbers: numbers, releaseInput: true});
      return this.feedForward(this.afterAttention(x, y, kwargs));
    });
  }

  /**
   * Norm, dropout and residual connection of attention. Its result y is released, the input x of the block is not.
   *
   * @param x (B, T, D)
   * @param y (B, T, D)
   */
  afterAttention(
    x: tf.Tensor,
    y: tf.Tensor,
    {training, seed}: Pick<BlockCallArgs, 'training' | 'seed'> = {},
  ): tf.Tensor {
    return tf.tidy(() => {
      if (this.postAttentionNorm) y = replaced(y, this.postAttentionNorm.call(y));
      // KerasHub applies dropout here and to attention probabilities, but not after the feed-forward network.
      if (training && this.config.dropout > 0) {
        y = tf.dropout(y, this.config.dropout, undefined, dropoutSeed(seed, 1));
      }
      return replaced(y, tf.add(x, y));
    });
  }

  /** The second half of the block, (B, T, D) → (B, T, D): norms, feed-forward network and residual connection. */
  feedForward(x: tf.Tensor): tf.Tensor {
    const fused = fusedFeedForward(this, x);
    if (fused) return fused;
    const normed = this.preFfwNorm.call(x);
    let y = this.ffwLinear.call(gatedGelu(this.gatingFfw.call(normed), this.gatingFfw2.call(normed)));
    if (this.postFfwNorm) y = this.postFfwNorm.call(y);
    return tf.add(x, y);
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3DecoderBlock);

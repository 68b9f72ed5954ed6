/** The attention of Gemma 3's decoder blocks. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {type CachedKeys, type KvCache} from '../../generation/kv_cache';
import {type ArgumentTable, completeArguments, namesOf, type OwnArgs, withAttributes} from '../../layers/arguments';
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
import {RotaryEmbedding} from '../../layers/rotary_embedding';
import {attention, type AttentionMasks, attentionWithDropout, dropoutSeed} from '../../ops/attention';
import {release, replaced} from '../../ops/op';
import {getInitializer, type InitializerLike, serializeInitializer} from '../../weights/initializers';
import {checkAttentionHeads} from './parts/attention_heads';
import {type Int8Kernel} from './parts/int8_kernels';

/** Arguments of {@link CachedGemma3Attention}. */
export interface CachedGemma3AttentionArgs extends LayerArgs {
  /** Width of a head; an even number. */
  headDim: number;
  /** Number of query heads. */
  numQueryHeads: number;
  /** Number of key and value heads. It divides the number of query heads; consecutive query heads share a key head. */
  numKeyValueHeads: number;
  /** Initializer of all four kernels. Defaults to "glorot_uniform". */
  kernelInitializer?: InitializerLike;
  /** Soft cap on attention logits. Null, the default: none. */
  logitSoftCap?: number | null;
  /** Let tokens see only a window of keys. Defaults to false. */
  useSlidingWindowAttention?: boolean;
  /** Width of this window: keys at this distance or more are not seen. Defaults to 4096. */
  slidingWindowSize?: number;
  /** Scale queries by 1/√headDim (true, the default) or by 1/√(hiddenDim // numQueryHeads). */
  queryHeadDimNormalize?: boolean;
  /** Normalize the queries and keys of each head before rotary positions are applied. Defaults to false. */
  useQueryKeyNorm?: boolean;
  /** Epsilon of these norms. Defaults to 1e-6. */
  layerNormEpsilon?: number;
  /** Longest wavelength of rotary positions. Defaults to 10,000. */
  ropeWavelength?: number;
  /** Positions are divided by this. Defaults to 1. */
  ropeScalingFactor?: number;
  /** Let tokens see later tokens, as in embedding models. Defaults to false. */
  useBidirectionalAttention?: boolean;
  /** Rate of dropout on attention probabilities while training. Defaults to 0. */
  dropout?: number;
}

type OwnAttentionArgs = OwnArgs<Omit<CachedGemma3AttentionArgs, 'kernelInitializer'>>;

/** The arguments, except `kernelInitializer` and those that every layer has. */
export const ATTENTION_ARGUMENTS = {
  headDim: ['size'],
  numQueryHeads: ['size'],
  numKeyValueHeads: ['size'],
  logitSoftCap: ['positiveOrNull', null],
  useSlidingWindowAttention: ['flag', false],
  slidingWindowSize: ['size', 4096],
  queryHeadDimNormalize: ['flag', true],
  useQueryKeyNorm: ['flag', false],
  layerNormEpsilon: ['positive', 1e-6],
  ropeWavelength: ['positive', 10_000],
  ropeScalingFactor: ['positive', 1],
  useBidirectionalAttention: ['flag', false],
  dropout: ['rate', 0],
} satisfies ArgumentTable<OwnAttentionArgs>;

/** Options of a call of {@link CachedGemma3Attention}. */
export interface AttentionCallArgs extends Kwargs {
  /** Whether dropout is applied. Defaults to false. */
  training?: boolean;
  /** Seed of dropout. Without a seed, each call drops different values. */
  seed?: number | string;
  /** int32 (B, T): 1 for tokens, 0 for padding. */
  paddingMask?: tf.Tensor;
  /** int32 (B, T): the number of the image that a token belongs to, from 1 on; 0 for text. */
  imageNumbers?: tf.Tensor;
  /** Keys and values of tokens seen before; the new ones are added. */
  cache?: KvCache;
  /** Only with a cache: how many of the T tokens of each row are real. Defaults to all. */
  counts?: readonly number[];
  /** Whether the input is released as soon as queries, keys and values are computed. Defaults to false. */
  releaseInput?: boolean;
}

/** Queries (B, T, N, H), keys and values (B, T, K, H). No interface, because `tf.tidy` returns none. */
export type ProjectedTokens = {
  query: tf.Tensor4D;
  key: tf.Tensor4D;
  value: tf.Tensor4D;
};

/** int32 (rows, count): positions from `first` on, counted from the start of each row. */
export const positionsOf = (starts: readonly number[], first: number, count: number): tf.Tensor2D =>
  tf.tensor2d(
    starts.map(start => Array.from({length: count}, (_, t) => start + first + t)),
    [starts.length, count],
    'int32',
  );

/**
 * Grouped-query attention with rotary positions, query-key norm, sliding window, soft cap and a cache, as KerasHub's
 * `CachedGemma3Attention`. Called with x (B, T, D), or [x, attentionMask (B, T, S)] where 0 hides a key → (B, T, D).
 *
 * @throws ValueError on unknown, missing, unusable or contradictory arguments of the constructor or a call.
 */
export class CachedGemma3Attention extends withAttributes<typeof Layer, Required<OwnAttentionArgs>>(
  Layer,
  namesOf(ATTENTION_ARGUMENTS),
) {
  /** @nocollapse */
  static className = 'CachedGemma3Attention';
  queryDense!: EinsumDense;
  keyDense!: EinsumDense;
  valueDense!: EinsumDense;
  queryNorm?: RMSNormalization;
  keyNorm?: RMSNormalization;
  outputDense!: EinsumDense;
  ropeLayer!: RotaryEmbedding;
  hiddenDim!: number;
  readonly config: Required<OwnAttentionArgs>;
  /** @internal Kernels that are stored as int8 if the dtype is "int4". Set before `build`. */
  int8Kernels: readonly Int8Kernel[] = [];
  private readonly kernelInitializer: InitializerLike;

  constructor(args: CachedGemma3AttentionArgs) {
    super(checkedArgs('CachedGemma3Attention', args, [...namesOf(ATTENTION_ARGUMENTS), 'kernelInitializer']));
    this.config = completeArguments('CachedGemma3Attention', args, ATTENTION_ARGUMENTS);
    checkAttentionHeads('CachedGemma3Attention', this.config);
    this.kernelInitializer = args.kernelInitializer ?? 'glorot_uniform';
  }

  /** Number of query heads per key head. */
  get numKeyValueGroups(): number {
    return this.numQueryHeads / this.numKeyValueHeads;
  }

  override build(inputShape: ShapeOrShapes): void {
    const shape = firstShape(inputShape);
    const {numQueryHeads, numKeyValueHeads, headDim, layerNormEpsilon: epsilon} = this.config;
    const dtype = this.dtypePolicy.name;
    this.hiddenDim = shape.at(-1)!;
    const dense = (attribute: string, name: string, equation: string, outputShape: (number | null)[]) =>
      this.addSublayer(
        attribute,
        new EinsumDense({equation, outputShape, kernelInitializer: this.kernelInitializer, dtype, name}),
      );
    const keyShape = [null, numKeyValueHeads, headDim];
    this.queryDense = dense('query_dense', 'query', 'btd,ndh->btnh', [null, numQueryHeads, headDim]);
    this.keyDense = dense('key_dense', 'key', 'bsd,kdh->bskh', keyShape);
    this.valueDense = dense('value_dense', 'value', 'bsd,kdh->bskh', keyShape);
    if (this.int8Kernels.includes('key')) this.keyDense.int4Format = 'int8';
    if (this.int8Kernels.includes('value')) this.valueDense.int4Format = 'int8';
    for (const layer of [this.queryDense, this.keyDense, this.valueDense]) layer.build(shape);
    if (this.config.useQueryKeyNorm) {
      this.queryNorm = this.addSublayer('query_norm', new RMSNormalization({epsilon, dtype, name: 'query_norm'}));
      this.queryNorm.build([null, null, numQueryHeads, headDim]);
      this.keyNorm = this.addSublayer('key_norm', new RMSNormalization({epsilon, dtype, name: 'key_norm'}));
      this.keyNorm.build([null, null, numKeyValueHeads, headDim]);
    }
    this.outputDense = dense('output_dense', 'attention_output', 'btnh,nhd->btd', [null, this.hiddenDim]);
    this.outputDense.build([null, null, numQueryHeads, headDim]);
    this.ropeLayer = this.addSublayer(
      'rope_layer',
      new RotaryEmbedding({
        maxWavelength: this.config.ropeWavelength,
        scalingFactor: this.config.ropeScalingFactor,
        name: 'rope',
      }),
    );
    this.built = true;
  }

  override call(inputs: TensorOrTensors, kwargs: AttentionCallArgs = {}): tf.Tensor {
    return tf.tidy(() => {
      const [x, attentionMask] = [inputs].flat() as [tf.Tensor, tf.Tensor?];
      const {paddingMask, imageNumbers, cache, training = false} = kwargs;
      if (cache && paddingMask) {
        throw new ValueError(
          'With a cache, pass the number of real tokens of each row as `counts`, not as a padding mask.',
        );
      }
      if (!cache && kwargs.counts) {
        throw new ValueError(
          'Without a cache, pass the real tokens of each row as a padding mask, not as `counts`. ' +
            `Received: counts=[${kwargs.counts}]. Pass the cache that they belong to, or leave them out.`,
        );
      }
      const [batch, length] = x.shape as [number, number];
      const counts = kwargs.counts ?? Array.from({length: batch}, () => length);
      const starts = cache ? [...cache.lengths] : [0];

      const projected = this.project(x, starts, kwargs.releaseInput);
      const {query, key, value} = projected;
      const positions = positionsOf(starts, 0, length);
      const seen = cache
        ? cache.append(key, value, counts)
        : {k: key, v: value, keyPositions: positions, layOut: (own: tf.Tensor2D) => own};
      const optional = {
        // Preprocessors return bool, but the kernels read int32.
        paddingMask: paddingMask && (tf.cast(paddingMask, 'int32') as tf.Tensor2D),
        queryImages: imageNumbers as tf.Tensor2D | undefined,
        keyImages: imageNumbers && seen.layOut(imageNumbers as tf.Tensor2D),
        attentionMask: attentionMask as tf.Tensor3D | undefined,
      };
      const dropout = training && this.config.dropout > 0 ? {seed: dropoutSeed(kwargs.seed, 0)} : undefined;
      const attended = this.attend(query, positions, seen, optional, dropout);
      release(query);
      if (!cache) release(key, value);
      return this.outputDense.call(attended); // (B, T, D)
    });
  }

  /**
   * Queries, keys and values of tokens x (B, T, D), normalized and rotated.
   *
   * @param starts position of the first token, of each row or of all.
   */
  project(x: tf.Tensor, starts: readonly number[], releaseInput = false): ProjectedTokens {
    let query = this.queryDense.call(x); // (B, T, N, H)
    let key = this.keyDense.call(x); // (B, T, K, H)
    const value = this.valueDense.call(x) as tf.Tensor4D; // (B, T, K, H)
    if (releaseInput) release(x);
    if (this.queryNorm) query = replaced(query, this.queryNorm.call(query));
    if (this.keyNorm) key = replaced(key, this.keyNorm.call(key));
    query = replaced(query, this.ropeLayer.call(query, {startIndex: starts}));
    key = replaced(key, this.ropeLayer.call(key, {startIndex: starts}));
    return {query: query as tf.Tensor4D, key: key as tf.Tensor4D, value};
  }

  /**
   * The result of attention, (B, T, N, H), before the last projection.
   *
   * @param dropout applied if given; without a seed, it differs each time.
   */
  attend(
    q: tf.Tensor4D,
    queryPositions: tf.Tensor2D,
    {k, v, keyPositions}: Omit<CachedKeys, 'layOut'>,
    masks: {[name in keyof AttentionMasks]?: tf.Tensor},
    dropout?: {seed: string | undefined},
  ): tf.Tensor4D {
    const given = Object.fromEntries(Object.entries(masks).filter(([, tensor]) => tensor)) as {
      [name: string]: tf.Tensor;
    };
    const all = {q, k, v, queryPositions, keyPositions, ...given};
    const attrs = {
      scale: this.queryScale,
      logitSoftCap: this.config.logitSoftCap,
      window: this.config.useSlidingWindowAttention ? this.config.slidingWindowSize : null,
      bidirectional: this.config.useBidirectionalAttention,
    };
    return dropout ? attentionWithDropout(all, attrs, this.config.dropout, dropout.seed) : attention(all, attrs);
  }

  /** Factor of the queries. KerasHub uses the same integer division. */
  get queryScale(): number {
    const {queryHeadDimNormalize, headDim, numQueryHeads} = this.config;
    return 1 / Math.sqrt(queryHeadDimNormalize ? headDim : Math.floor(this.hiddenDim / numQueryHeads));
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      ...this.config,
      kernelInitializer: serializeInitializer(getInitializer(this.kernelInitializer)),
    };
  }
}
registerLayer(CachedGemma3Attention);

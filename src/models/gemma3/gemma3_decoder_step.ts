/** The fast way of a decoder block through one new token a row: a single kernel over the block's weights and cache. */
import type * as tf from '@tensorflow/tfjs';
import {type KvCache} from '../../generation/kv_cache';
import {type EinsumDense} from '../../layers/einsum_dense';
import {
  decoderBlock,
  type DecoderBlockTensors,
  type DenseForm,
  type DenseName,
  hasDecoderBlock,
} from '../../ops/decoder_block';
import {hostRotaryTables} from '../../ops/rotary';
import {PackedWeight} from '../../weights/packed_weight';
import {type Gemma3DecoderBlock} from './gemma3_decoder_block';

/** Float32 kernels are seen as (outer, contracted, inner): `inner` is what lies behind the contracted axes. */
function formOf({kernel}: EinsumDense, contractedEnd: number): DenseForm {
  if (kernel instanceof PackedWeight) return {format: kernel.format, order: kernel.packing.order, inner: 1};
  const inner = (kernel.shape as number[]).slice(contractedEnd).reduce((a, b) => a * b, 1);
  return {format: 'float32', order: null, inner};
}

/** Weights and forms of a block; they do not change while their kernels are in use. */
class BlockParts {
  readonly forms: Record<DenseName, DenseForm>;
  private readonly denses: Record<DenseName, EinsumDense>;

  private readonly kernels: EinsumDense['kernel'][];

  constructor(private readonly block: Gemma3DecoderBlock) {
    const {attention} = block;
    this.denses = {
      query: attention.queryDense, // (N, D, H)
      key: attention.keyDense, // (K, D, H)
      value: attention.valueDense,
      output: attention.outputDense, // (N, H, D)
      gate: block.gatingFfw, // (D, F)
      up: block.gatingFfw2,
      down: block.ffwLinear, // (F, D)
    };
    const ends: Record<DenseName, number> = {query: 2, key: 2, value: 2, output: 2, gate: 1, up: 1, down: 1};
    const entries = Object.entries(this.denses) as [DenseName, EinsumDense][];
    this.forms = Object.fromEntries(entries.map(([name, dense]) => [name, formOf(dense, ends[name])])) as Record<
      DenseName,
      DenseForm
    >;
    this.kernels = entries.map(([, dense]) => dense.kernel);
  }

  /** False when `quantize` has put other kernels in the place of these. */
  get current(): boolean {
    return Object.values(this.denses).every((dense, i) => dense.kernel === this.kernels[i]);
  }

  tensors(): DecoderBlockTensors {
    const {block} = this;
    const norms = {
      preAttention: block.preAttentionNorm,
      postAttention: block.postAttentionNorm,
      preFfw: block.preFfwNorm,
      postFfw: block.postFfwNorm,
      queryNorm: block.attention.queryNorm,
      keyNorm: block.attention.keyNorm,
    };
    const tensors: DecoderBlockTensors = {};
    for (const [name, {kernel}] of Object.entries(this.denses)) {
      tensors[name] = kernel instanceof PackedWeight ? kernel.bits : kernel.read();
    }
    for (const [name, norm] of Object.entries(norms)) if (norm) tensors[name] = norm.scale.read();
    return tensors;
  }
}

const partsOf = new WeakMap<Gemma3DecoderBlock, BlockParts>();

/**
 * One token a row, x (B, 1, D) → (B, 1, D), its keys and values added to the cache; undefined where the backend has no
 * kernel for it, or not for this block.
 */
export function decoderStep(
  block: Gemma3DecoderBlock,
  x: tf.Tensor,
  cache: KvCache,
  counts: readonly number[],
): tf.Tensor | undefined {
  const {config} = block;
  if (x.shape[1] !== 1 || config.useBidirectionalAttention) return undefined;
  let parts = partsOf.get(block);
  if (!parts?.current) partsOf.set(block, (parts = new BlockParts(block)));
  if (!hasDecoderBlock(parts.forms)) return undefined;
  const starts = cache.lengths.map((length, row) => (counts[row]! > 0 ? length : -1));
  const angles = starts.map(start => Math.max(0, start));
  const {headDim, ropeWavelength, ropeScalingFactor} = config;
  const {cos, sin} = hostRotaryTables(angles, 1, headDim, ropeWavelength, ropeScalingFactor);
  return cache.extend(counts, (keys, values) =>
    decoderBlock(
      {x, keys, values, ...parts.tensors()},
      {
        forms: parts.forms,
        numQueryHeads: config.numQueryHeads,
        gateDim: Math.floor(config.intermediateDim / config.gateDimReduction),
        epsilon: config.layerNormEpsilon,
        scale: block.attention.queryScale,
        logitSoftCap: config.logitSoftCap,
        window: config.useSlidingWindowAttention ? config.slidingWindowSize : null,
        positions: starts,
        cos,
        sin,
      },
    ),
  );
}

/** The fast way of a decoder block through one new token a row: a single kernel over the block's weights and cache. */
import type * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type KvCache} from '../../../generation/kv_cache';
import {type EinsumDense} from '../../../layers/einsum_dense';
import {type RMSNormalization} from '../../../layers/rms_normalization';
import {
  decoderBlock,
  type DecoderBlockTensors,
  type DenseForm,
  type DenseName,
  hasDecoderBlock,
} from '../../../ops/fused_block';
import {hostRotaryTables} from '../../../ops/rotary';
import {PackedWeight} from '../../../weights/packed_weight';
import {type Gemma3DecoderBlock} from '../gemma3_decoder_block';

/** Float32 kernels are seen as (outer, contracted, inner): `inner` is what lies behind the contracted axes. */
function formOf({kernel}: EinsumDense, contractedEnd: number): DenseForm {
  if (kernel instanceof PackedWeight) return {format: kernel.format, order: kernel.packing.order, inner: 1};
  const inner = sizeOf((kernel.shape as number[]).slice(contractedEnd));
  return {format: 'float32', order: null, inner};
}

/** Weights and forms of a block; they do not change while their kernels are in use. */
class BlockParts {
  readonly forms: Record<DenseName, DenseForm>;
  private readonly denses: [name: DenseName, kernel: EinsumDense['kernel']][];
  private readonly scales: [name: string, scale: RMSNormalization['scale']][];
  private readonly owners: EinsumDense[];

  constructor(block: Gemma3DecoderBlock) {
    const {attention} = block;
    const denses: Record<DenseName, [EinsumDense, contractedEnd: number]> = {
      query: [attention.queryDense, 2], // (N, D, H)
      key: [attention.keyDense, 2], // (K, D, H)
      value: [attention.valueDense, 2],
      output: [attention.outputDense, 2], // (N, H, D)
      gate: [block.gatingFfw, 1], // (D, F)
      up: [block.gatingFfw2, 1],
      down: [block.ffwLinear, 1], // (F, D)
    };
    const norms = {
      preAttention: block.preAttentionNorm,
      postAttention: block.postAttentionNorm,
      preFfw: block.preFfwNorm,
      postFfw: block.postFfwNorm,
      queryNorm: attention.queryNorm,
      keyNorm: attention.keyNorm,
    };
    const entries = Object.entries(denses) as [DenseName, [EinsumDense, number]][];
    this.denses = entries.map(([name, [dense]]) => [name, dense.kernel]);
    this.forms = Object.fromEntries(entries.map(([name, [dense, end]]) => [name, formOf(dense, end)])) as Record<
      DenseName,
      DenseForm
    >;
    this.owners = entries.map(([, [dense]]) => dense);
    this.scales = Object.entries(norms).flatMap(([name, norm]) => (norm ? [[name, norm.scale]] : []));
  }

  /** False when `quantize` has put other kernels in the place of these. */
  get current(): boolean {
    return this.denses.every(([, kernel], i) => this.owners[i]!.kernel === kernel);
  }

  /** True while a kernel has LoRA that is not merged, of which the fused kernel knows nothing. */
  get adapted(): boolean {
    return this.owners.some(({loraEnabled}) => loraEnabled);
  }

  /** Adds them to `tensors`. */
  addTo(tensors: DecoderBlockTensors): DecoderBlockTensors {
    for (const [name, kernel] of this.denses) {
      tensors[name] = kernel instanceof PackedWeight ? kernel.bits : kernel.read();
    }
    for (const [name, scale] of this.scales) tensors[name] = scale.read();
    return tensors;
  }
}

const partsOf = new WeakMap<Gemma3DecoderBlock, BlockParts>();

/**
 * One token a row, x (B, 1, D) → (B, 1, D), its keys and values added to the cache; undefined where the backend has no
 * kernel for it, or not for this block, as with LoRA.
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
  if (parts.adapted || !hasDecoderBlock(parts.forms)) return undefined;
  const starts = cache.lengths.map((length, row) => (counts[row]! > 0 ? length : -1));
  const angles = starts.map(start => Math.max(0, start));
  const {headDim, ropeWavelength, ropeScalingFactor} = config;
  const {cos, sin} = hostRotaryTables(angles, 1, headDim, ropeWavelength, ropeScalingFactor);
  return cache.extend(counts, (keys, values) =>
    decoderBlock(parts.addTo({x, keys, values}), {
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
    }),
  );
}

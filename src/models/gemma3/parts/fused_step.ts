/**
 * The fast path of a decoder block for one new token per row: a single kernel over the block's weights and its cache.
 */
import type * as tf from '@tensorflow/tfjs';
import {type KvCache} from '../../../generation/kv_cache';
import {type EinsumDense} from '../../../layers/einsum_dense';
import {type RMSNormalization} from '../../../layers/rms_normalization';
import {type DenseForm, formOf, storedTensor} from '../../../ops/dense_form';
import {
  type BlockAttrs,
  type DenseName,
  fusedBlock,
  type FusedBlockTensors,
  hasFusedBlock,
} from '../../../ops/fused_block';
import {hostRotaryTables} from '../../../ops/rotary';

/** The parts of a `Gemma3DecoderBlock` that the fused kernel reads. */
export interface FusableBlock {
  readonly attention: {
    readonly queryDense: EinsumDense;
    readonly keyDense: EinsumDense;
    readonly valueDense: EinsumDense;
    readonly outputDense: EinsumDense;
    readonly queryNorm?: RMSNormalization;
    readonly keyNorm?: RMSNormalization;
    readonly queryScale: number;
  };
  readonly preAttentionNorm: RMSNormalization;
  readonly postAttentionNorm?: RMSNormalization;
  readonly preFfwNorm: RMSNormalization;
  readonly postFfwNorm?: RMSNormalization;
  readonly gatingFfw: EinsumDense;
  readonly gatingFfw2: EinsumDense;
  readonly ffwLinear: EinsumDense;
  readonly config: {
    readonly numQueryHeads: number;
    readonly headDim: number;
    readonly intermediateDim: number;
    readonly gateDimReduction: number;
    readonly layerNormEpsilon: number;
    readonly logitSoftCap: number | null;
    readonly useSlidingWindowAttention: boolean;
    readonly slidingWindowSize: number;
    readonly useBidirectionalAttention: boolean;
    readonly ropeWavelength: number;
    readonly ropeScalingFactor: number;
  };
}

/** Weights and forms of a block, looked up once: they stay the same until its kernels are replaced. */
class BlockWeights {
  readonly forms: Record<DenseName, DenseForm>;
  private readonly denses: [name: DenseName, kernel: EinsumDense['kernel']][];
  private readonly scales: [name: string, scale: RMSNormalization['scale']][];
  private readonly owners: EinsumDense[];

  constructor(block: FusableBlock) {
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
    this.forms = Object.fromEntries(entries.map(([name, [dense, end]]) => [name, formOf(dense.kernel, end)])) as Record<
      DenseName,
      DenseForm
    >;
    this.owners = entries.map(([, [dense]]) => dense);
    this.scales = Object.entries(norms).flatMap(([name, norm]) => (norm ? [[name, norm.scale]] : []));
  }

  /** False once `quantize` has replaced one of the kernels. */
  get current(): boolean {
    return this.denses.every(([, kernel], i) => this.owners[i]!.kernel === kernel);
  }

  /** True while a kernel has LoRA that is not merged: the fused kernel does not add it. */
  get adapted(): boolean {
    return this.owners.some(({loraEnabled}) => loraEnabled);
  }

  addTo(tensors: FusedBlockTensors): FusedBlockTensors {
    for (const [name, kernel] of this.denses) tensors[name] = storedTensor(kernel);
    for (const [name, scale] of this.scales) tensors[name] = scale.read();
    return tensors;
  }
}

const weightsOf = new WeakMap<FusableBlock, BlockWeights>();

/** What a kernel for the whole block takes, whatever the tokens are. */
export interface FusableParts {
  attrs: BlockAttrs;
  /** Adds the weights to `tensors`, and returns `tensors`. */
  addTo(tensors: FusedBlockTensors): FusedBlockTensors;
}

/**
 * Undefined if no kernel of the current backend can compute the whole block: it has none, or none for the packed order of
 * the weights, or the block has LoRA or bidirectional attention.
 */
export function fusableParts(block: FusableBlock): FusableParts | undefined {
  const {config} = block;
  if (config.useBidirectionalAttention) return undefined;
  let weights = weightsOf.get(block);
  if (!weights?.current) weightsOf.set(block, (weights = new BlockWeights(block)));
  if (weights.adapted || !hasFusedBlock(weights.forms)) return undefined;
  const attrs = {
    forms: weights.forms,
    numQueryHeads: config.numQueryHeads,
    gateDim: Math.floor(config.intermediateDim / config.gateDimReduction),
    epsilon: config.layerNormEpsilon,
    scale: block.attention.queryScale,
    logitSoftCap: config.logitSoftCap,
    window: config.useSlidingWindowAttention ? config.slidingWindowSize : null,
  };
  return {attrs, addTo: tensors => weights.addTo(tensors)};
}

/**
 * One token per row, x (B, 1, D) → (B, 1, D); its keys and values are added to the cache. Undefined if no fused kernel
 * can run this step: see {@link fusableParts}.
 */
export function fusedStep(
  block: FusableBlock,
  x: tf.Tensor,
  cache: KvCache,
  counts: readonly number[],
): tf.Tensor | undefined {
  if (x.shape[1] !== 1) return undefined;
  const parts = fusableParts(block);
  if (!parts) return undefined;
  const positions = cache.lengths.map((length, row) => (counts[row]! > 0 ? length : -1));
  const {cos, sin} = anglesAt(block, positions);
  return cache.extend(counts, (keys, values) =>
    fusedBlock(parts.addTo({x, keys, values}), {...parts.attrs, positions, cos, sin}),
  );
}

/** Cosines and sines of a block at positions, (rows, headDim / 2) each; any for the position −1. */
export function anglesAt({config}: FusableBlock, positions: readonly number[]) {
  const {headDim, ropeWavelength, ropeScalingFactor} = config;
  const starts = positions.map(position => Math.max(0, position));
  return hostRotaryTables(starts, 1, headDim, ropeWavelength, ropeScalingFactor);
}

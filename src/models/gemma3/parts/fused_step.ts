/**
 * The fast path of decoder blocks for one new token per row: a single kernel over the weights and the cache of a block,
 * or of all blocks.
 */
import type * as tf from '@tensorflow/tfjs';
import {KvCache} from '../../../generation/kv_cache';
import {type EinsumDense} from '../../../layers/einsum_dense';
import {type RMSNormalization} from '../../../layers/rms_normalization';
import {type DenseForm, formOf, storedTensor} from '../../../ops/dense_form';
import {
  type Angles,
  type BlockAttrs,
  type BlockInput,
  type DenseName,
  fusedBlock,
  fusedBlocks,
  type FusedBlockTensors,
  hasFusedBlock,
  hasFusedBlocks,
  inputNames,
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
class BlockWeights implements FusableParts {
  readonly attrs: BlockAttrs;
  private readonly denses: [name: DenseName, kernel: EinsumDense['kernel']][];
  private readonly scales: [name: BlockInput, scale: RMSNormalization['scale']][];
  private readonly owners: EinsumDense[];

  constructor(block: FusableBlock) {
    const {attention, config} = block;
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
    const forms = entries.map(([name, [dense, end]]) => [name, formOf(dense.kernel, end)]);
    this.attrs = {
      forms: Object.fromEntries(forms) as Record<DenseName, DenseForm>,
      numQueryHeads: config.numQueryHeads,
      gateDim: Math.floor(config.intermediateDim / config.gateDimReduction),
      epsilon: config.layerNormEpsilon,
      scale: attention.queryScale,
      logitSoftCap: config.logitSoftCap,
      window: config.useSlidingWindowAttention ? config.slidingWindowSize : null,
    };
    this.owners = entries.map(([, [dense]]) => dense);
    this.scales = Object.entries(norms).flatMap(([name, norm]) => (norm ? [[name as BlockInput, norm.scale]] : []));
  }

  /** False once `quantize` has replaced one of the kernels. */
  get current(): boolean {
    return this.denses.every(([, kernel], i) => this.owners[i]!.kernel === kernel);
  }

  /** True while a kernel has LoRA that is not merged: the fused kernel does not add it. */
  get adapted(): boolean {
    return this.owners.some(({loraEnabled}) => loraEnabled);
  }

  addTo(tensors: FusedBlockTensors, names?: Readonly<Record<BlockInput, string>>): FusedBlockTensors {
    for (const [name, kernel] of this.denses) tensors[names?.[name] ?? name] = storedTensor(kernel);
    for (const [name, scale] of this.scales) tensors[names?.[name] ?? name] = scale.read();
    return tensors;
  }
}

const weightsOf = new WeakMap<FusableBlock, BlockWeights>();

/**
 * The inputs of a kernel for the whole block that do not depend on tokens. The same object until the block's kernels
 * are replaced.
 */
export interface FusableParts {
  readonly attrs: BlockAttrs;
  /** Adds the weights to `tensors`, under other names if there are any, and returns `tensors`. */
  addTo(tensors: FusedBlockTensors, names?: Readonly<Record<BlockInput, string>>): FusedBlockTensors;
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
  return weights.adapted || !hasFusedBlock(weights.attrs.forms) ? undefined : weights;
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
  const positions = nextPositions(cache, counts);
  const {cos, sin} = anglesAt(block, positions);
  return cache.extend(counts, (keys, values) =>
    fusedBlock(parts.addTo({x, keys, values}), {...parts.attrs, positions, cos, sin}),
  );
}

/**
 * One token per row through all blocks, x (B, 1, D) → (B, 1, D). The blocks must have the same sizes. Undefined if there
 * is no kernel for that, or a block cannot be fused: see {@link fusableParts}.
 */
export function fusedSteps(
  blocks: readonly FusableBlock[],
  x: tf.Tensor,
  caches: readonly KvCache[],
  counts: readonly number[],
): tf.Tensor | undefined {
  if (x.shape[1] !== 1 || !hasFusedBlocks()) return undefined;
  const parts: FusableParts[] = [];
  for (const block of blocks) {
    const part = fusableParts(block);
    if (!part) return undefined;
    parts.push(part);
  }
  const positions = nextPositions(caches[0]!, counts);
  const {kinds, kindOf} = anglesOf(blocks);
  const angles = kinds.map(kind => anglesAt(kind, positions));
  return KvCache.extendAll(caches, counts, slots => {
    const tensors: FusedBlockTensors = {x};
    for (const [i, part] of parts.entries()) {
      const names = inputNames(i);
      part.addTo(tensors, names);
      tensors[names.keys] = slots[i]!.keys;
      tensors[names.values] = slots[i]!.values;
    }
    return fusedBlocks(tensors, {
      blocks: parts.map(({attrs}) => attrs),
      positions,
      angles: kindOf.map(kind => angles[kind]!),
    });
  });
}

/** The position of the next token of each row; −1 for a row without one. */
const nextPositions = ({lengths}: KvCache, counts: readonly number[]): number[] =>
  lengths.map((length, row) => (counts[row]! > 0 ? length : -1));

/** One block of each kind of rotary angles, and the kind of each block. */
export function anglesOf<B extends FusableBlock>(blocks: readonly B[]): {kinds: B[]; kindOf: number[]} {
  const kinds: B[] = [];
  const same = ({config: a}: B, {config: b}: B) =>
    a.headDim === b.headDim && a.ropeWavelength === b.ropeWavelength && a.ropeScalingFactor === b.ropeScalingFactor;
  const kindOf = blocks.map(block => {
    const known = kinds.findIndex(kind => same(kind, block));
    return known >= 0 ? known : kinds.push(block) - 1;
  });
  return {kinds, kindOf};
}

/** Cosines and sines of a block at positions, (rows, headDim / 2) each; arbitrary for the position −1. */
export function anglesAt({config}: FusableBlock, positions: readonly number[]): Angles {
  const {headDim, ropeWavelength, ropeScalingFactor} = config;
  const starts = positions.map(position => Math.max(0, position));
  return hostRotaryTables(starts, 1, headDim, ropeWavelength, ropeScalingFactor);
}

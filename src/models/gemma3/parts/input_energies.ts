/** Estimates from weights how large the inputs of kernels are, channel by channel. */
import {type ReversibleEmbedding} from '../../../layers/reversible_embedding';
import {type RMSNormalization} from '../../../layers/rms_normalization';
import {type AnyWeight} from '../../../weights/packed_weight';
import {type KnowsEnergies} from '../../../weights/energies';
import {prepareEnergies} from '../../../weights/prepare_energies';
import {weightStream} from '../../../weights/repack';
import {type Gemma3DecoderBlock} from '../gemma3_decoder_block';
import {type Gemma3BackboneConfig} from './backbone_config';

/**
 * Number of rows of the embedding whose mean square represents that of all: the tokens that a vocabulary learns first.
 */
const ROWS = 2048;
/** Channels differ more than the sum of squares suggests, because what blocks add to a channel is not independent. */
const POWER = 1.25;
/** Minimum energy of a channel; the mean is 1. */
const FLOOR = 0.02;

/** The parts of a backbone. */
interface Parts {
  readonly tokenEmbedding: ReversibleEmbedding;
  readonly transformerLayers: readonly Gemma3DecoderBlock[];
  readonly layerNorm: RMSNormalization;
  readonly config: Gemma3BackboneConfig;
}

type Values = ReadonlyMap<AnyWeight, Float32Array>;

/**
 * The weights from which energies are estimated, and how many of their first values are needed. None without norms
 * after attention and feed-forward networks, because then it is unknown how much a block adds.
 */
export function energySources({tokenEmbedding, transformerLayers, layerNorm, config}: Parts): Map<AnyWeight, number> {
  const {usePostAttentionNorm, usePostFfwNorm, hiddenDim, vocabularySize} = config;
  if (!usePostAttentionNorm || !usePostFfwNorm) return new Map();
  const norms = transformerLayers.flatMap(({preAttentionNorm, postAttentionNorm, preFfwNorm, postFfwNorm}) => {
    return [preAttentionNorm, postAttentionNorm!, preFfwNorm, postFfwNorm!];
  });
  return new Map<AnyWeight, number>([
    [tokenEmbedding.embeddings, Math.min(ROWS, vocabularySize) * hiddenDim],
    ...[...norms, layerNorm].map(({scale}) => [scale, hiddenDim] as const),
  ]);
}

/**
 * Sets the energies of all kernels that read normalized hidden states, the head among them. The other kernels get none,
 * because their inputs follow no such rule.
 *
 * A block adds the outputs of its last norms to the hidden state; their mean squares are those of the norms' scales. So
 * the mean square of a channel is about the sum of these, starting with that of the embedding. The norm before a kernel
 * multiplies it by the square of its own scale. Channels that the embedding uses more than others are more active
 * everywhere, most of all before the head, which has the same matrix: measured on the real 270M, see bench/README.md.
 */
export function guessEnergies(model: Parts, values: Values): void {
  if (values.size === 0) return;
  const {tokenEmbedding, transformerLayers, layerNorm, config} = model;
  const squares = ({scale}: RMSNormalization) => Array.from(values.get(scale)!, value => (1 + value) ** 2);
  const embedded = columnSquares(values.get(tokenEmbedding.embeddings)!, config.hiddenDim);
  const hidden = embedded.map(value => value * config.hiddenDim);
  const add = (more: readonly number[]) => more.forEach((value, i) => (hidden[i]! += value));
  const before = (scales: readonly number[], use: (value: number) => number) =>
    energies(hidden.map((value, i) => value * scales[i]! * use(embedded[i]!)));
  for (const block of transformerLayers) {
    const {queryDense, keyDense, valueDense} = block.attention;
    const attended = before(squares(block.preAttentionNorm), Math.sqrt);
    for (const {kernel} of [queryDense, keyDense, valueDense]) kernel.energies = attended;
    add(squares(block.postAttentionNorm!));
    const gated = before(squares(block.preFfwNorm), Math.sqrt);
    for (const {kernel} of [block.gatingFfw, block.gatingFfw2]) kernel.energies = gated;
    add(squares(block.postFfwNorm!));
  }
  // A model that embeds texts has no head, only the lookup, where all channels count.
  if (config.isEmbeddingModel) return;
  tokenEmbedding.embeddings.energies = before(squares(layerNorm), value => value);
}

/** Energies with mean 1, before the floor is added. */
function energies(products: readonly number[]): Float32Array {
  const powers = products.map(value => value ** POWER);
  const mean = powers.reduce((sum, value) => sum + value, 0) / powers.length;
  return Float32Array.from(powers, value => (mean > 0 ? value / mean : 1) + FLOOR);
}

/** Mean squares of the columns of a matrix of this width. */
function columnSquares(values: Float32Array, width: number): number[] {
  const sums = new Array<number>(width).fill(0);
  values.forEach((value, i) => (sums[i % width]! += value * value));
  return sums.map(sum => (sum * width) / values.length);
}

/** Sets the energies of a model from its own weights. */
export const prepareOwnEnergies = (model: KnowsEnergies): Promise<void> => prepareEnergies(model, weightStream);

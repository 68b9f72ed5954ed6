/** What the arguments of Gemma 3's classes are: an argument of one name is one thing in all of them. */
import {ValueError} from '../../../base/errors';
import {type ArgumentKind, checkArgument} from '../../../base/checks';

const KINDS: Readonly<Record<string, ArgumentKind>> = {
  // Sizes
  vocabularySize: 'size',
  imageSize: 'sizeOrNull',
  numLayers: 'size',
  numQueryHeads: 'size',
  numKeyValueHeads: 'size',
  hiddenDim: 'size',
  intermediateDim: 'size',
  headDim: 'size',
  gateDimReduction: 'size',
  slidingWindowSize: 'size',
  poolingIntermediateDim: 'sizeOrNull',
  embeddingDim: 'sizeOrNull',
  sequenceLength: 'size',
  maxImagesPerPrompt: 'size',
  numVisionTokensPerImage: 'size',
  // Numbers
  logitSoftCap: 'positiveOrNull',
  attentionLogitSoftCap: 'positiveOrNull',
  finalLogitSoftCap: 'positiveOrNull',
  layerNormEpsilon: 'positive',
  ropeWavelength: 'positive',
  ropeScalingFactor: 'positive',
  localRopeScalingFactor: 'positive',
  globalRopeScalingFactor: 'positive',
  dropout: 'rate',
  // Flags
  queryHeadDimNormalize: 'flag',
  useQueryKeyNorm: 'flag',
  usePostFfwNorm: 'flag',
  usePostAttentionNorm: 'flag',
  useSlidingWindowAttention: 'flag',
  useBidirectionalAttention: 'flag',
  isEmbeddingModel: 'flag',
  trainable: 'flag',
  addStartToken: 'flag',
  addEndToken: 'flag',
  // The rest
  name: 'text',
};

/**
 * Checks complete arguments: defaults are filled in, and what is undefined is missing. Arguments that have no entry
 * above are left to who reads them.
 *
 * @throws ValueError naming the first that does not fit, or those that do not fit each other.
 */
export function checkGemma3Arguments(owner: string, args: object): void {
  for (const [name, value] of Object.entries(args)) {
    if (Object.hasOwn(KINDS, name)) checkArgument(owner, name, value, KINDS[name]!);
  }
  const {numQueryHeads, numKeyValueHeads, headDim} = args as Record<string, number | undefined>;
  if (numQueryHeads !== undefined && numKeyValueHeads !== undefined && numQueryHeads % numKeyValueHeads !== 0) {
    throw new ValueError(
      `${owner} expected numQueryHeads to be a multiple of numKeyValueHeads. ` +
        `Received: numQueryHeads=${numQueryHeads}, numKeyValueHeads=${numKeyValueHeads}.`,
    );
  }
  if (headDim !== undefined && headDim % 2 !== 0) {
    throw new ValueError(`${owner} expected an even headDim, for rotary positions. Received: headDim=${headDim}.`);
  }
}

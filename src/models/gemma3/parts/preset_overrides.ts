/** Arguments of a backbone that override those of a preset. */
import {camelKeys} from '../../../base/casing';
import {listed, show, ValueError} from '../../../base/errors';
import {isObject, type JsonObject} from '../../../base/json';
import {type Gemma3BackboneConfig} from './backbone_config';

/** Arguments that determine which weights exist, and their shapes. */
const SHAPES: readonly string[] = [
  'vocabularySize',
  'numLayers',
  'numQueryHeads',
  'numKeyValueHeads',
  'hiddenDim',
  'intermediateDim',
  'headDim',
  'useQueryKeyNorm',
  'usePostFfwNorm',
  'usePostAttentionNorm',
  'isEmbeddingModel',
] satisfies (keyof Gemma3BackboneConfig)[];

const EMBEDDING_SHAPES: readonly string[] = [
  'poolingIntermediateDim',
  'embeddingDim',
] satisfies (keyof Gemma3BackboneConfig)[];

const VISION_SHAPES = ['imageSize', 'patchSize', 'hiddenDim', 'numLayers', 'numHeads', 'intermediateDim', 'outputDim'];

/** A backbone that was built. */
interface Built {
  readonly config: Gemma3BackboneConfig;
  readonly visionEncoder: {readonly config: object} | null;
}

/**
 * Checks that a backbone can have the weights of a preset. A model without the vision encoder of the preset can.
 *
 * @param stored the configuration of the preset.
 * @throws ValueError naming each argument that contradicts the preset, with both values.
 */
export function checkOverrides(stored: JsonObject, {config, visionEncoder}: Built, preset: string): void {
  const theirs = camelKeys(stored);
  const names = config.isEmbeddingModel && theirs.isEmbeddingModel ? [...SHAPES, ...EMBEDDING_SHAPES] : SHAPES;
  const problems = differences(theirs, config, names);
  if (visionEncoder) {
    const {config: vision} = (theirs.visionEncoder ?? {}) as {config?: unknown};
    problems.push(
      ...(isObject(vision)
        ? differences(camelKeys(vision), visionEncoder.config, VISION_SHAPES, 'visionEncoder.')
        : ['a visionEncoder, where the preset has none']),
    );
  }
  if (!problems.length) return;
  throw new ValueError(
    `Expected arguments that fit the weights of preset "${preset}". Received: ${listed(problems)}. ` +
      'Leave them out, or pass `loadWeights: false` for a model without these weights.',
  );
}

function differences(stored: object, wanted: object, names: readonly string[], prefix = ''): string[] {
  const [theirs, ours] = [stored, wanted] as Record<string, unknown>[];
  return names
    .filter(name => theirs![name] !== undefined && theirs![name] !== ours![name])
    .map(name => `${prefix}${name}=${show(ours![name])}, where the preset has ${show(theirs![name])}`);
}

/** A small random model with a sliding window, for tests of code around a model rather than of its numbers. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, Gemma3CausalLMPreprocessor, Gemma3Tokenizer} from '../../src';
import {fixtureBytes} from './fixtures';

const proto = fixtureBytes('tokenizer/vocabulary.spm');

export interface SmallModelArgs {
  window?: number;
  vision?: boolean;
  sequenceLength?: number;
  /** Every sixth one has no window. */
  numLayers?: number;
  hiddenDim?: number;
}

/** Number of tokens that stand for an image. */
export const IMAGE_TOKENS = 4;
/** Height and width of an image. */
export const IMAGE_SIZE = 8;

export function smallModel({
  window = 8,
  vision = false,
  sequenceLength = 64,
  numLayers = 7,
  hiddenDim = 16,
}: SmallModelArgs = {}): Gemma3CausalLM {
  const tokenizer = new Gemma3Tokenizer({proto});
  const visionEncoder = {
    ...{imageSize: IMAGE_SIZE, patchSize: 2, numHeads: 2, hiddenDim: 8, numLayers: 1, intermediateDim: 12},
    ...{outputDim: hiddenDim, poolSize: 2, layerNormEpsilon: 1e-6},
  };
  const backbone = new Gemma3Backbone({
    vocabularySize: tokenizer.vocabularySize,
    imageSize: vision ? IMAGE_SIZE : null,
    numLayers,
    numQueryHeads: 4,
    numKeyValueHeads: 2,
    hiddenDim,
    intermediateDim: 24,
    headDim: 8,
    usePostFfwNorm: true,
    usePostAttentionNorm: true,
    useSlidingWindowAttention: true,
    slidingWindowSize: window,
    visionEncoder: vision ? (visionEncoder as never) : null,
    dtype: 'float32',
  });
  const lm = new Gemma3CausalLM({
    backbone,
    preprocessor: new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength}),
  });
  backbone.dispose(); // the model still holds a reference
  return lm;
}

/** Token ids that are neither image placeholders nor stop tokens. */
export function someTokens(count: number, seed: number): number[] {
  const values = tf.tidy(() => tf.randomUniform([count], 20, 200, 'int32', seed).dataSync());
  return Array.from(values);
}

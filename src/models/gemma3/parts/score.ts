/** Scores of given tokens, for `Gemma3CausalLM.score`. */
import * as tf from '@tensorflow/tfjs';
import {checkObject} from '../../../base/checks';
import {checkKeys, show, ValueError} from '../../../base/errors';
import {type TensorOrArray, toTensor} from '../../../layers/tensor_like';
import {tokenLoss} from '../../../ops/token_loss';
import {type Gemma3Backbone} from '../gemma3_backbone';

/** Arguments of `Gemma3CausalLM.score`. */
export interface ScoreArgs {
  /** int32 (B, T): tokens of the prompt and the new text, as a tensor or arrays of numbers. */
  tokenIds: TensorOrArray;
  /** (B, T): 1 for tokens, 0 for padding. Defaults to ones. */
  paddingMask?: TensorOrArray;
  /** "logits", the default, returns logits (B, T, V). "loss" returns −log p of each target, (B, T). */
  scoringMode?: 'logits' | 'loss';
  /**
   * Called after each layer with its output (B, T, D) and its index: −1 for the embedding, then 0 for the first block
   * and so on. Returns the input of the next layer. By default nothing is changed.
   */
  layerInterceptFn?: (x: tf.Tensor, layer: number) => tf.Tensor;
  /** Only with "loss": int32 (B, T), the token that should follow each token. */
  targetIds?: TensorOrArray;
}
const KNOWN = ['tokenIds', 'paddingMask', 'scoringMode', 'layerInterceptFn', 'targetIds'] as const;

/** The given tokens, targets and mask, as tensors. */
type ScoreTensors = {tokenIds: tf.Tensor; targetIds?: tf.Tensor; paddingMask?: tf.Tensor};

function tensorsOf(args: ScoreArgs, created: tf.Tensor[]): ScoreTensors {
  const tokenIds = toTensor('tokenIds', args.tokenIds, 'int32', created);
  if (tokenIds.rank !== 2 || tokenIds.size === 0) {
    throw new ValueError(
      'score expected `tokenIds` as a tensor or nested arrays (batch, tokens) with at least one token. ' +
        `Received: shape [${tokenIds.shape}].`,
    );
  }
  const sameShape = (name: 'paddingMask' | 'targetIds') => {
    if (args[name] === undefined) return {};
    const tensor = toTensor(name, args[name], 'int32', created);
    if (tensor.shape.join() === tokenIds.shape.join()) return {[name]: tensor};
    throw new ValueError(
      `score expected \`${name}\` of the shape of tokenIds, [${tokenIds.shape}]. Received: [${tensor.shape}].`,
    );
  };
  return {tokenIds, ...sameShape('paddingMask'), ...sameShape('targetIds')};
}

function checkArgs(args: ScoreArgs): void {
  checkObject('score', args);
  checkKeys('score', args, KNOWN);
  const {scoringMode = 'logits', targetIds, layerInterceptFn} = args;
  if (scoringMode !== 'logits' && scoringMode !== 'loss') {
    throw new ValueError(
      `Unsupported scoringMode. Must be one of "logits" or "loss". Received: scoringMode=${show(scoringMode)}.`,
    );
  }
  if (scoringMode === 'loss' && !targetIds) {
    throw new ValueError('Cannot compute loss without targets. Please provide target token ids as `targetIds`.');
  }
  if (scoringMode === 'logits' && targetIds) {
    throw new ValueError(
      'score reads `targetIds` only with scoringMode "loss". Leave it out, or pass scoringMode: "loss".',
    );
  }
  if (layerInterceptFn !== undefined && typeof layerInterceptFn !== 'function') {
    throw new ValueError(`score expected \`layerInterceptFn\` as a function. Received: ${show(layerInterceptFn)}.`);
  }
}

/**
 * Implements `Gemma3CausalLM.score`.
 *
 * @throws ValueError on unusable arguments, and when `layerInterceptFn` returns another shape.
 */
export function score(backbone: Gemma3Backbone, args: ScoreArgs): tf.Tensor {
  checkArgs(args);
  const {scoringMode = 'logits', layerInterceptFn = x => x} = args;
  return tf.tidy(() => {
    const {tokenIds, paddingMask, targetIds} = tensorsOf(args, []);
    const intercept = (x: tf.Tensor, layer: number) => {
      const next = layerInterceptFn(x, layer);
      if (next instanceof tf.Tensor && next.shape.join() === x.shape.join()) return next;
      const received = next instanceof tf.Tensor ? `[${next.shape}]` : show(next);
      throw new ValueError(
        `score expected \`layerInterceptFn\` to return activations [${x.shape}]. Received: ${received}. ` +
          'Return the first argument to leave them as they are.',
      );
    };
    const mask = paddingMask ? tf.cast(paddingMask, 'int32') : tf.ones(tokenIds.shape, 'int32');
    const embedded = intercept(backbone.tokenEmbedding.call(tf.cast(tokenIds, 'int32')), -1);
    let x = backbone.scaleEmbeddings(embedded);
    backbone.transformerLayers.forEach((block, i) => (x = intercept(block.call([x, mask]), i)));
    const logits = backbone.tokenEmbedding.call(backbone.layerNorm.call(x), {reverse: true});
    return scoringMode === 'logits' ? logits : tokenLoss(logits, tf.cast(targetIds!, 'int32'));
  });
}

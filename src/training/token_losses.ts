/** The loss of given tokens. */
import * as tf from '@tensorflow/tfjs';
import {type ReversibleEmbedding} from '../layers/reversible_embedding';
import {headLoss} from '../ops/head_loss';
import {loraHeadLoss} from '../ops/lora_head_loss';
import {tokenLoss} from '../ops/token_loss';
import {PackedWeight} from '../weights/packed_weight';

/** The part of a model that turns hidden states into logits. */
export interface ModelWithHead {
  /** Hidden states (N, D) → the states (N, D) that the head reads. */
  finalStates(hidden: tf.Tensor2D): tf.Tensor2D;
  /** The head: the embedding, in reverse. */
  readonly head: ReversibleEmbedding;
  /** Hidden states (N, D) → (N, V). */
  logits(hidden: tf.Tensor2D): tf.Tensor2D;
}

/** Hidden states (N, D) and the tokens that should follow them, int32 (N) → −log p of each token, (N). */
export function tokenLosses(model: ModelWithHead, hidden: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D {
  const {embeddings, logitSoftCap: softCap, loraMatrices, loraScale: scale} = model.head;
  const table = embeddings instanceof PackedWeight ? embeddings : (embeddings.read() as tf.Tensor2D);
  return tf.tidy(() => {
    const states = model.finalStates(hidden);
    if (!loraMatrices) return headLoss(states, table, targets, {softCap});
    // `loraHeadLoss` has no gradient for the table, which a user may have unfrozen.
    if (embeddings.trainable) return tokenLoss(model.logits(hidden), targets) as tf.Tensor1D;
    const [a, b] = [loraMatrices.a.read(), loraMatrices.b.read()];
    return loraHeadLoss(states, table, {a, b, scale}, targets, {softCap});
  });
}

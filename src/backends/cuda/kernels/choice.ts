/** The choice of the next tokens on the device, from logits (rows, vocabulary). */
import * as tf from '@tensorflow/tfjs';
import {drawSoftmax, softmaxSums, softmaxWeights} from '../../../ops/sampling';
import {type TokenChoice} from '../../../ops/token_program';
import {FLOAT, INT32, type Program, type ShortAttributes} from '../device';

type Draw = NonNullable<TokenChoice['draw']>;

/** The most tokens that are drawn from without the host, which looks at all of them if these are not enough. */
const MOST_DRAWN = 64;

/** Whether tokens can be chosen in this way. */
export const canChoose = ({draw, penalties}: TokenChoice): boolean =>
  penalties === null && (draw === null || draw.topK === null || draw.topK <= MOST_DRAWN);

const TOP_K: ShortAttributes = {T: FLOAT, sorted: true, index_type: INT32};
const TO_FLOAT: ShortAttributes = {SrcT: INT32, DstT: FLOAT, Truncate: false};

/**
 * The most probable tokens: int32 (rows) for the next step, and float32 (rows) for the host, where NaN stands for a row
 * that has a NaN or an infinity.
 */
export function mostProbable(p: Program, logits: number, [rows, size]: [number, number]): [next: number, seen: number] {
  const next = p.argMax(logits);
  return [next, p.add(p.run('Cast', TO_FLOAT, next), p.reshape(finite(p, logits, size), [rows]))];
}

/** (rows, 1): 0, or NaN for a row of logits that has a NaN or an infinity. */
function finite(p: Program, logits: number, size: number): number {
  // 0 times the logits is 0, but for those two.
  return p.matMul(logits, p.device.filled([size, 1], 0));
}

/** Tokens that are drawn from logits (rows, columns), int32 (rows): negative where the host has to. */
export function drawn(
  p: Program,
  logits: number,
  [rows, columns]: [number, number],
  {temperature, topK, topP, minP}: Draw,
  uniforms: readonly number[],
): tf.Tensor1D {
  const tensor = (id: number, width: number, dtype?: 'int32') =>
    tf.engine().makeTensorFromTensorInfo(p.take(id, [rows, width], dtype)) as tf.Tensor2D;
  return tf.tidy(() => {
    if (topK === null && topP === null && minP === 0) {
      return drawSoftmax(tensor(logits, columns), {temperature, uniforms});
    }
    const k = Math.min(topK ?? MOST_DRAWN, columns);
    const [largest, places] = p.several('TopKV2', TOP_K, 2, logits, p.device.int(k)) as [number, number];
    const usable = tf.equal(tensor(finite(p, logits, columns), 1), 0); // False for NaN.
    const [values, tokens] = [tensor(largest, k), tensor(places, k, 'int32').toFloat()];
    const weights = softmaxWeights(values, temperature);
    const column = (at: number) => tf.slice(weights, [0, at], [rows, 1]);
    let kept: tf.Tensor = tf.greaterEqual(weights, tf.mul(column(0), minP));
    let enough: tf.Tensor = tf.fill([rows, 1], Number(topK !== null || k === columns)).toBool();
    if (topP !== null) {
      const sums = softmaxSums(tensor(logits, columns), temperature);
      const shares = tf.div(weights, tf.slice(sums, [0, 1], [rows, 1]));
      // Up to the one that makes their sum exceed p.
      kept = tf.logicalAnd(kept, tf.lessEqual(tf.cumsum(shares, 1, true), topP));
      enough = tf.logicalOr(enough, tf.greater(tf.sum(shares, 1, true), topP));
    } else {
      enough = tf.logicalOr(enough, tf.less(column(k - 1), tf.mul(column(0), minP)));
    }
    const own = tf.mul(weights, kept.toFloat());
    const target = tf.mul(tf.sum(own, 1, true), tf.tensor2d([...uniforms], [rows, 1]));
    const possible = tf.greater(own, 0).toFloat(); // The first ones: weights fall.
    const passed = tf.sum(tf.mul(tf.lessEqual(tf.cumsum(own, 1), target).toFloat(), possible), 1, true);
    const index = tf.minimum(passed, tf.sub(tf.sum(possible, 1, true), 1));
    const chosen = tf.equal(tf.range(0, k, 1, 'float32').reshape([1, k]), index).toFloat();
    const token = tf.sum(tf.mul(tokens, chosen), 1, true);
    const found = tf.where(usable, tf.where(enough, token, tf.scalar(-2)), tf.scalar(-1));
    return found.reshape<tf.Tensor1D>([rows]).toInt();
  });
}

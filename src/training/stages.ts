/**
 * A model as a chain of stages. Gradients are computed stage by stage, from the last to the first, so that memory holds
 * the activation gradients of only one stage.
 */
import * as tf from '@tensorflow/tfjs';
import {Recording} from './tape';

/** One stage of a model. It maps the result of the previous stage to its own result. */
export interface Stage {
  /** The weights that it reads, whether trained or frozen. Several stages may share a weight. */
  readonly weights: readonly tf.LayerVariable[];
  /** Must return the same result for the same input on every call, dropout included. The first stage receives null. */
  call(x: tf.Tensor | null): tf.Tensor;
}

const trainedOf = ({weights}: Stage): tf.LayerVariable[] => [...new Set(weights.filter(({trainable}) => trainable))];

/** Runs stages in order. Disposes intermediate results, but not the input. */
export function runStages(stages: readonly Stage[], input: tf.Tensor | null): tf.Tensor {
  let x = input;
  for (const stage of stages) {
    const y = tf.tidy(() => stage.call(x));
    if (x !== input) x?.dispose();
    x = y;
  }
  return x!;
}

/**
 * The loss, which is the result of the last stage, and its gradient for each trained weight of all stages. Weights that
 * do not affect the loss get zeros. Stages before the first trained one only run forward.
 *
 * @param recompute whether to keep only the input of each stage and to run the stage again in the backward pass. Both
 * ways give bit-identical results.
 */
export function lossAndGradients(
  stages: readonly Stage[],
  recompute: boolean,
): {loss: tf.Scalar; gradients: Map<tf.LayerVariable, tf.Tensor>} {
  const first = stages.findIndex(stage => trainedOf(stage).length > 0);
  const trained = stages.slice(first);
  const gradients = new Map<tf.LayerVariable, tf.Tensor>();
  const recordings: Recording[] = [];
  const record = (i: number, input: tf.Tensor | null) => {
    const xs = [...trainedOf(trained[i]!).map(weight => weight.read()), ...(i > 0 ? [input!] : [])];
    const recording = new Recording(() => trained[i]!.call(input), xs);
    recordings.push(recording);
    return recording;
  };
  try {
    const loss = tf.tidy(() => {
      const inputs = [first > 0 ? runStages(stages.slice(0, first), null) : null];
      const last = trained.length - 1;
      for (let i = 0; i < last; i++) {
        const input = inputs[i]!;
        inputs.push(recompute ? runStages([trained[i]!], input) : record(i, input).value);
        // The recording holds its own references to the tensors that gradients read.
        if (!recompute) input?.dispose();
      }
      const loss = record(last, inputs[last]!).value as tf.Scalar;
      let dy: tf.Tensor | null = null;
      for (let i = last; i >= 0; i--) {
        if (recompute && i < last) record(i, inputs[i]!).value.dispose();
        const recording = recordings.pop()!;
        const grads = recording.gradients(dy);
        recording.dispose();
        trainedOf(trained[i]!).forEach((weight, k) => add(gradients, weight, grads[k] ?? tf.zerosLike(weight.read())));
        dy?.dispose();
        inputs[i]?.dispose();
        dy = i > 0 ? grads.at(-1)! : null;
      }
      for (const gradient of gradients.values()) tf.keep(gradient);
      return loss;
    });
    return {loss, gradients};
  } finally {
    for (const recording of recordings) recording.dispose();
  }
}

/** Adds to the gradient of a weight, because several stages may share it. */
function add(gradients: Map<tf.LayerVariable, tf.Tensor>, weight: tf.LayerVariable, gradient: tf.Tensor): void {
  const before = gradients.get(weight);
  gradients.set(weight, before ? tf.add(before, gradient) : gradient);
  if (before) tf.dispose([before, gradient]);
}

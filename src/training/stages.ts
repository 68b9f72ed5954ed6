/**
 * A model as a chain, one stage after the other, and gradients through it: all at once, or stage by stage from the last to
 * the first, so that memory holds what one stage needs and no more.
 */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../errors';

/** Gives its result for that of the stage before it; the first stage is given null. */
export interface Stage {
  /** What it reads, trained or not. Several stages may share a weight. */
  readonly weights: readonly tf.LayerVariable[];
  /** The same for the same input, each time: with dropout too. */
  call(x: tf.Tensor | null): tf.Tensor;
}

/** tfjs' own gradients take no gradient of what comes behind, or none of variables. */
interface GradientEngine {
  gradients(
    f: () => tf.Tensor,
    xs: tf.Tensor[],
    dy: tf.Tensor | null,
    allowNoGradients: boolean,
  ): {value: tf.Tensor; grads: (tf.Tensor | undefined)[]};
}

const trainedOf = (stages: readonly Stage[]): tf.LayerVariable[] => [
  ...new Set(stages.flatMap(({weights}) => weights.filter(({trainable}) => trainable))),
];

/** Runs stages one after the other; what is between them is disposed, what went in is not. */
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
 * The loss that the last stage gives, and its gradient for each trained weight of all stages; a weight on which the loss
 * does not depend gets zeros. Stages before the first trained one run forward only.
 *
 * @param recompute whether to keep the input of each stage alone, and to run it again when its turn comes on the way back.
 * Both ways give the same bits.
 * @throws ValueError if nothing is trained.
 */
export function lossAndGradients(
  stages: readonly Stage[],
  recompute: boolean,
): {loss: tf.Scalar; gradients: Map<tf.LayerVariable, tf.Tensor>} {
  const first = stages.findIndex(stage => trainedOf([stage]).length > 0);
  if (first < 0) throw new ValueError('Expected weights to train. Received a model whose weights are all frozen.');
  const trained = stages.slice(first);
  const groups = recompute ? trained.map(stage => [stage]) : [trained];
  const gradients = new Map<tf.LayerVariable, tf.Tensor>();
  const loss = tf.tidy(() => {
    const inputs: (tf.Tensor | null)[] = [first > 0 ? runStages(stages.slice(0, first), null) : null];
    for (const group of groups.slice(0, -1)) inputs.push(runStages(group, inputs.at(-1)!));
    let loss: tf.Tensor | undefined;
    let dy: tf.Tensor | null = null;
    for (let i = groups.length - 1; i >= 0; i--) {
      const input = inputs[i]!;
      const weights = trainedOf(groups[i]!);
      const xs = [...weights.map(weight => weight.read()), ...(i > 0 ? [input!] : [])];
      const chain = () => groups[i]!.reduce((x, stage) => stage.call(x), input)!;
      const {value, grads} = (tf.engine() as unknown as GradientEngine).gradients(chain, xs, dy, true);
      weights.forEach((weight, k) => {
        const gradient = grads[k] ?? tf.zerosLike(xs[k]!);
        const before = gradients.get(weight);
        gradients.set(weight, before ? tf.add(before, gradient) : gradient);
        if (before) tf.dispose([before, gradient]);
      });
      tf.dispose([dy, input, loss && value].filter(x => x) as tf.Tensor[]);
      loss ??= value;
      dy = i > 0 ? grads.at(-1)! : null;
    }
    for (const gradient of gradients.values()) tf.keep(gradient);
    return loss as tf.Scalar;
  });
  return {loss, gradients};
}

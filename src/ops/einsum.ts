/**
 * Two-operand einsum equations, lowered to one matrix product. `tf.einsum` is not used: it has no gradient, and
 * materializes outer products.
 */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {sizeOf} from '../base/shapes';
import {type KernelLayout, PackedWeight} from '../weights/packed_weight';
import './bfloat16_rows';
import {matMul} from './mat_mul';

/** An equation, resolved for an input of a given rank. Axis numbers refer to the operand's own shape. */
export interface EinsumPlan {
  readonly equation: string;
  /** Labels of x, of the kernel and of the result, one per axis. The axes of `...` are labelled 0, 1, 2… */
  readonly x: readonly string[];
  readonly kernel: readonly string[];
  readonly output: readonly string[];
  /** Labels that occur in x, the kernel and the result. */
  readonly batch: readonly string[];
  /** Labels that occur in both operands and are summed over, in the kernel's order. */
  readonly contracted: readonly string[];
  /** Labels that occur only in x and the result. */
  readonly freeX: readonly string[];
  /** Labels that occur only in the kernel and the result, in the kernel's order. */
  readonly freeKernel: readonly string[];
  /** The layout of a packed kernel of this equation. */
  readonly layout: KernelLayout;
}

const FORMS = '"[X],[Y]->[Z]", "...[X],[Y]->...[Z]" or "[X]...,[Y]->[Z]..."';

const plans = new Map<string, EinsumPlan>();

/**
 * @param xRank rank of x, which determines how many axes `...` covers.
 * @throws ValueError for equations that Keras also rejects, and for a label repeated within one operand.
 */
export function planEinsum(equation: string, xRank: number): EinsumPlan {
  // Cached: a model has about a dozen equations, and its layers need them on every call.
  const key = `${equation} ${xRank}`;
  let plan = plans.get(key);
  if (!plan) plans.set(key, (plan = makePlan(equation, xRank)));
  return plan;
}

function makePlan(equation: string, xRank: number): EinsumPlan {
  const match = /^(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]*)(\.\.\.)?$/.exec(equation);
  const [, xLeft, xSpec = '', xRight, kernelSpec = '', outLeft, outSpec = '', outRight] = match ?? [];
  if (!match || (xLeft && xRight) || !!xLeft !== !!outLeft || !!xRight !== !!outRight) {
    throw new ValueError(`Expected an einsum equation of the form ${FORMS}. Received: "${equation}".`);
  }
  const elided = xRank - xSpec.length;
  if (elided < 0 || (elided > 0 && !xLeft && !xRight)) {
    throw new ValueError(
      `Equation "${equation}" expects an input of rank ${xSpec.length}${xLeft || xRight ? ' or more' : ''}. ` +
        `Received: rank ${xRank}.`,
    );
  }
  const dots = Array.from({length: elided}, (_, i) => String(i));
  const around = (left: unknown, spec: string, right: unknown) => [
    ...(left ? dots : []),
    ...spec,
    ...(right ? dots : []),
  ];
  const x = around(xLeft, xSpec, xRight);
  const kernel = [...kernelSpec];
  const output = around(outLeft, outSpec, outRight);
  for (const labels of [x, kernel, output]) {
    if (new Set(labels).size !== labels.length) {
      throw new ValueError(`Expected each label at most once per operand. Received: "${equation}".`);
    }
  }
  const invalid = output.find(label => !x.includes(label) && !kernel.includes(label));
  if (invalid) throw new ValueError(`Label "${invalid}" of the result is in neither operand. Received: "${equation}".`);
  const batch = kernel.filter(label => x.includes(label) && output.includes(label));
  const contracted = kernel.filter(label => x.includes(label) && !output.includes(label));
  const freeKernel = kernel.filter(label => !x.includes(label) && output.includes(label));
  const inputs = contracted.map(label => kernel.indexOf(label));
  return {
    equation,
    x,
    kernel,
    output,
    batch,
    contracted,
    freeX: x.filter(label => !kernel.includes(label) && output.includes(label)),
    freeKernel,
    layout: {in: inputs, out: kernel.map((_, axis) => axis).filter(axis => !inputs.includes(axis))},
  };
}

/** Sums over the labels missing from `order`, and transposes the others to that order. May return the tensor itself. */
function arrange(tensor: tf.Tensor, labels: readonly string[], order: readonly string[]): tf.Tensor {
  const summed = labels.filter(label => !order.includes(label));
  const kept = labels.filter(label => order.includes(label));
  const y = summed.length
    ? tf.sum(
        tensor,
        summed.map(label => labels.indexOf(label)),
      )
    : tensor;
  const axes = order.map(label => kept.indexOf(label));
  return axes.every((axis, i) => axis === i) ? y : tf.transpose(y, axes);
}

/** Index of the first contracted axis of a kernel, if its contracted axes are adjacent; −1 if they are not. */
function contractedStart({kernel, contracted}: EinsumPlan): number {
  const start = kernel.indexOf(contracted[0] ?? '');
  return contracted.every((label, i) => kernel[start + i] === label) ? start : -1;
}

/**
 * The product of a dense layer. Kernels are read in their stored order, without a transpose: a float32 kernel with
 * adjacent contracted axes, like all of Keras', is [outer, contracted, inner]; a packed one has one row per output.
 *
 * @param weight float32 tensor in logical shape, or a packed weight.
 */
export function denseEinsum(x: tf.Tensor, weight: tf.Tensor | PackedWeight, plan: EinsumPlan): tf.Tensor {
  return tf.tidy(() => {
    const shape = weight.shape;
    const sizes = new Map<string, number>();
    plan.x.forEach((label, i) => sizes.set(label, x.shape[i]!));
    plan.kernel.forEach((label, i) => {
      if (sizes.has(label) && sizes.get(label) !== shape[i]) {
        throw new ValueError(
          `Equation "${plan.equation}": axis "${label}" has size ${shape[i]} in the kernel. ` +
            `Received: ${sizes.get(label)} in an input of shape [${x.shape}].`,
        );
      }
      sizes.set(label, shape[i]!);
    });
    const sizesOf = (labels: readonly string[]) => labels.map(label => sizes.get(label)!);
    const {batch, contracted, freeX, freeKernel} = plan;
    const left = arrange(x, plan.x, [...batch, ...freeX, ...contracted]);
    const start = contractedStart(plan);
    const used = plan.kernel.every(label => contracted.includes(label) || freeKernel.includes(label));

    let y: tf.Tensor;
    if (batch.length === 0 && contracted.length > 0 && used && (weight instanceof PackedWeight || start >= 0)) {
      const columns = sizeOf(sizesOf(contracted));
      const x2 = tf.reshape(left, [sizeOf(sizesOf(freeX)), columns]) as tf.Tensor2D; // (M, C)
      if (weight instanceof PackedWeight) {
        y = weight.matMul(x2);
      } else {
        const outer = sizeOf(shape.slice(0, start));
        const inner = sizeOf(shape.slice(start + contracted.length));
        y = matMul(x2, tf.reshape(weight, [outer, columns, inner]) as tf.Tensor3D);
      }
    } else {
      const kernel = weight instanceof PackedWeight ? weight.read() : weight;
      const right = arrange(kernel, plan.kernel, [...batch, ...contracted, ...freeKernel]);
      const dims = [batch, freeX, contracted, freeKernel].map(labels => sizeOf(sizesOf(labels)));
      const [b, m, c, n] = dims as [number, number, number, number];
      y = tf.matMul(tf.reshape(left, [b, m, c]) as tf.Tensor3D, tf.reshape(right, [b, c, n]) as tf.Tensor3D);
    }
    const labels = [...batch, ...freeX, ...freeKernel];
    return arrange(tf.reshape(y, sizesOf(labels)), labels, plan.output);
  });
}

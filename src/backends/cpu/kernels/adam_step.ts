/** The Adam update step. */
import {type KernelFunc, type TensorInfo} from '@tensorflow/tfjs';
import {type AdamStepAttrs} from '../../../ops/adam_step';
import {type KernelMap} from '../../kernel_map';
import {type MathBackendCPU, valuesOf} from '../cpu_backend';

/** See `ops/adam_step.ts`. */
const adamStepKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const {variable, gradient, momentum, velocity} = inputs as Record<string, TensorInfo>;
  const {beta1, beta2, epsilon, alpha} = attrs as unknown as AdamStepAttrs;
  const [xs, gradients] = [valuesOf(cpu, variable!), valuesOf(cpu, gradient!)];
  const [means, squares] = [valuesOf(cpu, momentum!), valuesOf(cpu, velocity!)];
  const results = [xs, means, squares].map(({length}) => new Float32Array(length)) as Float32Array[];
  const [y, m, v] = results as [Float32Array, Float32Array, Float32Array];
  for (let i = 0; i < y.length; i++) {
    const g = gradients[i]!;
    m[i] = means[i]! + (g - means[i]!) * (1 - beta1);
    v[i] = squares[i]! + (g * g - squares[i]!) * (1 - beta2);
    y[i] = xs[i]! - (m[i]! * alpha) / (Math.sqrt(v[i]!) + epsilon);
  }
  return results.map(values => cpu.makeTensorInfo(variable!.shape, 'float32', values));
};

export const adamStepKernels: KernelMap = {
  Gemma3AdamStep: adamStepKernel,
};

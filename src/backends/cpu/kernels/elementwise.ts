/** RMS norm, rotary embedding and gated GELU, in one pass each. tfjs operations would take six passes or more. */
import {type KernelFunc, type TensorInfo} from '@tensorflow/tfjs';
import {type KernelMap} from '../../kernel_map';
import {type MathBackendCPU, valuesOf} from '../cpu_backend';

/** x (…, D), scale (D) → (…, D) */
const rmsNormKernel: KernelFunc = ({inputs, backend, attrs}) => {
  const cpu = backend as MathBackendCPU;
  const {x, scale} = inputs as {x: TensorInfo; scale: TensorInfo};
  const {epsilon} = attrs as unknown as {epsilon: number};
  const [xs, scales] = [valuesOf(cpu, x), valuesOf(cpu, scale)];
  const width = scales.length;
  const y = new Float32Array(xs.length);
  for (let from = 0; from < xs.length; from += width) {
    let sum = 0;
    for (let i = from; i < from + width; i++) sum += xs[i]! * xs[i]!;
    const inverse = 1 / Math.sqrt(sum / width + epsilon);
    for (let i = 0; i < width; i++) y[from + i] = xs[from + i]! * inverse * (1 + scales[i]!);
  }
  return cpu.makeTensorInfo(x.shape, 'float32', y);
};

/** x (B, T, N, H); cos, sin (1 or B, T, 1, H/2) → (B, T, N, H) */
const rotaryKernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {x, cos, sin} = inputs as {x: TensorInfo; cos: TensorInfo; sin: TensorInfo};
  const [batch, length, heads, width] = x.shape as [number, number, number, number];
  const half = width / 2;
  const [xs, cosines, sines] = [valuesOf(cpu, x), valuesOf(cpu, cos), valuesOf(cpu, sin)];
  const rows = cos.shape[0]!;
  const y = new Float32Array(xs.length);
  for (let b = 0, from = 0; b < batch; b++) {
    for (let t = 0; t < length; t++) {
      const table = ((rows === 1 ? 0 : b) * length + t) * half;
      for (let n = 0; n < heads; n++, from += width) {
        for (let h = 0; h < half; h++) {
          const [c, s] = [cosines[table + h]!, sines[table + h]!];
          const [a, d] = [xs[from + h]!, xs[from + half + h]!];
          y[from + h] = a * c - d * s;
          y[from + half + h] = d * c + a * s;
        }
      }
    }
  }
  return cpu.makeTensorInfo(x.shape, 'float32', y);
};

const TANH_FACTOR = Math.sqrt(2 / Math.PI);

/** gelu(gate) · value, for equal shapes. */
const gatedGeluKernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {gate, value} = inputs as {gate: TensorInfo; value: TensorInfo};
  const [gates, values] = [valuesOf(cpu, gate), valuesOf(cpu, value)];
  const y = new Float32Array(gates.length);
  for (let i = 0; i < y.length; i++) {
    const g = gates[i]!;
    y[i] = 0.5 * g * (1 + Math.tanh(TANH_FACTOR * (g + 0.044715 * g * g * g))) * values[i]!;
  }
  return cpu.makeTensorInfo(gate.shape, 'float32', y);
};

export const elementwiseKernels: KernelMap = {
  Gemma3RmsNorm: rmsNormKernel,
  Gemma3Rotary: rotaryKernel,
  Gemma3GatedGelu: gatedGeluKernel,
};

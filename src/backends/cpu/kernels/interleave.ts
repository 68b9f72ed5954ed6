/** Inserts image embeddings into those of a text by copying whole rows. */
import {type KernelFunc, type TensorInfo} from '@tensorflow/tfjs';
import {type KernelMap} from '../../kernel_map';
import {type MathBackendCPU, valuesOf} from '../cpu_backend';

/** text (B, T, D), images (B · K, D), indices (B, K) → (B, T, D). See `ops/interleave.ts`. */
const interleaveKernel: KernelFunc = ({inputs, backend}) => {
  const cpu = backend as MathBackendCPU;
  const {text, images, indices} = inputs as {text: TensorInfo; images: TensorInfo; indices: TensorInfo};
  const [, length, width] = text.shape as [number, number, number];
  const perSample = indices.shape[1]!;
  const y = (valuesOf(cpu, text) as Float32Array).slice();
  const rows = valuesOf(cpu, images);
  valuesOf(cpu, indices).forEach((index, i) => {
    // Index 0 is padding.
    if (index === 0) return;
    y.set(rows.subarray(i * width, (i + 1) * width), (Math.floor(i / perSample) * length + index) * width);
  });
  return cpu.makeTensorInfo(text.shape, 'float32', y);
};

export const interleaveKernels: KernelMap = {
  Gemma3Interleave: interleaveKernel,
};

/** Kernels for tfjs' plain CPU backend, where plain tfjs operations are slowest. Registered when this is imported. */
import * as tf from '@tensorflow/tfjs';
import {adamStepKernel} from './adam_step';
import {attentionKernel, cacheUpdateKernel} from './attention';
import './host_packing';
import {gatedGeluKernel, rmsNormKernel, rotaryKernel} from './elementwise';
import {interleaveKernel} from './interleave';
import {matMulBfloat16Kernel, matMulKernel, unpackBfloat16Kernel} from './mat_mul';
import {drawKernel, penalizeKernel, softmaxSumsKernel, topKKernel} from './sampling';

/** By kernel name; another backend over host arrays can register the same ones under its own name. */
export const cpuKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Gemma3MatMul: matMulKernel,
  Gemma3MatMulBfloat16: matMulBfloat16Kernel,
  Gemma3UnpackBfloat16: unpackBfloat16Kernel,
  Gemma3Attention: attentionKernel,
  Gemma3CacheUpdate: cacheUpdateKernel,
  Gemma3RmsNorm: rmsNormKernel,
  Gemma3Rotary: rotaryKernel,
  Gemma3GatedGelu: gatedGeluKernel,
  Gemma3Interleave: interleaveKernel,
  Gemma3TopK: topKKernel,
  Gemma3SoftmaxSums: softmaxSumsKernel,
  Gemma3Draw: drawKernel,
  Gemma3Penalize: penalizeKernel,
  Gemma3AdamStep: adamStepKernel,
};

for (const [kernelName, kernelFunc] of Object.entries(cpuKernels)) {
  // Who both imports and requires this package has two copies of it, but one tfjs, which warns of a second kernel.
  if (!tf.getKernel(kernelName, 'cpu')) tf.registerKernel({kernelName, backendName: 'cpu', kernelFunc});
}

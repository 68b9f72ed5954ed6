/**
 * All kernels of the CPU backend: plain JavaScript, faster than the references, which are built from tfjs operations.
 */
import {type KernelMap, mergeKernels} from '../../kernel_map';
import {adamStepKernels} from './adam_step';
import {attentionKernels} from './attention';
import {elementwiseKernels} from './elementwise';
import {interleaveKernels} from './interleave';
import {matMulKernels} from './mat_mul';
import {samplingKernels} from './sampling';

/** Kernels by name. Another backend that works on host arrays can register them under its own name. */
export const cpuKernels: KernelMap = mergeKernels([
  matMulKernels,
  attentionKernels,
  elementwiseKernels,
  interleaveKernels,
  samplingKernels,
  adamStepKernels,
]);

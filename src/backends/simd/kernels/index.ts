/** All tfjs kernels of the backend: those of the CPU backend, replaced and extended by the kernel families of this folder. */
import {cpuKernels} from '../../cpu';
import {arithmeticKernels} from './arithmetic';
import {attentionKernels} from './attention';
import {embeddingKernels} from './embedding';
import {fusedBlockKernels} from './fused_block';
import {geluKernels} from './gelu';
import {headLossKernels} from './head_loss';
import {type KernelMap} from './kernel';
import {matMulKernels} from './mat_mul';
import {normKernels} from './norms';
import {rotaryKernels} from './rotary';
import {samplingKernels} from './sampling';

/** @throws Error if two families have a kernel of the same name. */
export function mergeKernels(families: readonly KernelMap[]): KernelMap {
  const merged: Record<string, KernelMap[string]> = {};
  for (const [name, kernel] of families.flatMap(family => Object.entries(family))) {
    if (merged[name]) throw new Error(`internal: two kernels have the name "${name}".`);
    merged[name] = kernel;
  }
  return merged;
}

/** By kernel name. */
export const simdKernels: KernelMap = {
  ...cpuKernels,
  ...mergeKernels([
    matMulKernels,
    embeddingKernels,
    normKernels,
    rotaryKernels,
    attentionKernels,
    geluKernels,
    fusedBlockKernels,
    headLossKernels,
    samplingKernels,
    arithmeticKernels,
  ]),
};

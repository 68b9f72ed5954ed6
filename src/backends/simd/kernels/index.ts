/** All tfjs kernels of the backend: those of the CPU backend, replaced and extended by this folder. */
import {cpuKernels} from '../../cpu/kernels';
import {type KernelMap, mergeKernels} from '../../kernel_map';
import {arithmeticKernels} from './arithmetic';
import {attentionKernels} from './attention';
import {copyKernels} from './copies';
import {embeddingKernels} from './embedding';
import {feedForwardKernels} from './feed_forward';
import {fusedBlockKernels} from './fused_block';
import {geluKernels} from './gelu';
import {headLossKernels} from './head_loss';
import {matMulKernels} from './mat_mul';
import {normKernels} from './norms';
import {rotaryKernels} from './rotary';
import {samplingKernels} from './sampling';
import {visionLayerKernels} from './vision_layer';

/** Kernels by name. */
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
    feedForwardKernels,
    visionLayerKernels,
    headLossKernels,
    samplingKernels,
    arithmeticKernels,
    copyKernels,
  ]),
};

/** The `cpu` backend: tfjs' own, with this package's kernels, which are registered when this file is imported. */
import * as tf from '@tensorflow/tfjs';
import {registerHostValues} from '../../weights/host_values';
import {type Backend} from '../backend';
import {hostValues} from './cpu_backend';
import './host_packing';
import {cpuKernels} from './kernels';
import {sliceKernel} from './kernels/slice';

for (const [kernelName, kernelFunc] of Object.entries(cpuKernels)) {
  // A program that both imports and requires this package has two copies of it but one tfjs, which warns about
  // duplicates.
  if (!tf.getKernel(kernelName, 'cpu')) tf.registerKernel({kernelName, backendName: 'cpu', kernelFunc});
}

const ofTfjs = tf.getKernel('Slice', 'cpu');
if (ofTfjs) {
  tf.unregisterKernel('Slice', 'cpu');
  tf.registerKernel({...ofTfjs, kernelFunc: sliceKernel(ofTfjs.kernelFunc)});
}

registerHostValues('cpu', hostValues);

export const cpu = {
  name: 'cpu',
  options: [],
  unavailable: async () => undefined,
  preferred: () => true,
  use: async (_options: object) => {
    await tf.setBackend('cpu');
  },
  details: async () => 'plain JavaScript, one thread',
} as const satisfies Backend;

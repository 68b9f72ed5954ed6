/** tfjs' own kernel for slices on the CPU. To be imported before anything of this package, which replaces it. */
import * as tf from '@tensorflow/tfjs';

export const ofTfjs = tf.getKernel('Slice', 'cpu')!.kernelFunc;

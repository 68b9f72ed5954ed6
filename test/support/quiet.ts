/**
 * Before each test file: what `src/index.ts` gives users on tfjs' CPU backend, except kernels, which tests register.
 */
import * as tf from '@tensorflow/tfjs';
import '../../src/backends/cpu/host_packing';

// The backend would advise another package on its first use, in every test file.
(tf.backend() as unknown as {firstUse: boolean}).firstUse = false;

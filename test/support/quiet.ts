/** Runs before each test file: sets up tfjs' CPU backend as `src/index.ts` does. Tests register the kernels. */
import * as tf from '@tensorflow/tfjs';
import '../../src/backends/cpu/host_packing';

// Otherwise the backend prints a hint to use another package, once per test file.
(tf.backend() as unknown as {firstUse: boolean}).firstUse = false;

// Software that is set up on this machine must not change a test that does not request it.
if (!process.env.TEST_CUDA) process.env.GEMMA3_CUDA_FOLDER = '/nothing/is/set/up';

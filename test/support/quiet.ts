/** tfjs' CPU backend advises another package on its first use, in every test file. */
import * as tf from '@tensorflow/tfjs';

(tf.backend() as unknown as {firstUse: boolean}).firstUse = false;

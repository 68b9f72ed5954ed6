/** The backend `cuda` in tests, on the TensorFlow that `gemma3 setup-cuda` has set up: for GPUs, or with --cpu. */
import * as tf from '@tensorflow/tfjs';
import {deviceOf} from '../../src/backends/cuda/create_backend';
import {type Device} from '../../src/backends/cuda/device';
import {useBackend} from '../../src/backends/use_backend';

/** Whether TensorFlow is set up: where the variable is set, a missing one is an error. */
const WANTED = Boolean(process.env.TEST_CUDA);

/** The device in use. */
export const cudaDevice = (): Device => deviceOf(tf.backend())!;

/** Uses the backend. */
export async function useCuda(): Promise<Device> {
  await useBackend('cuda');
  return cudaDevice();
}

/** Defines tests that need TensorFlow. Afterwards the previous backend is in use again. */
export function describeCuda(title: string, define: () => void): void {
  if (!WANTED) {
    describe.skip(`${title}: set TEST_CUDA=1 after gemma3 setup-cuda, or gemma3 setup-cuda --cpu`, define);
    return;
  }
  describe(title, () => {
    let previous: string;
    beforeAll(() => {
      previous = tf.getBackend();
    });
    define();
    afterAll(async () => {
      await tf.setBackend(previous);
    });
  });
}

/** Reading tensors, and checking for leaks. */
import * as tf from '@tensorflow/tfjs';

/** Values of a tensor that is then disposed. */
export async function take(tensor: tf.Tensor): Promise<number[]> {
  const values = Array.from(await tensor.data());
  tensor.dispose();
  return values;
}

/** Runs something and expects no tensor to be left behind. */
export async function expectNoLeak(run: () => Promise<void> | void): Promise<void> {
  const before = tf.memory().numTensors;
  await run();
  expect(tf.memory().numTensors).toBe(before);
}

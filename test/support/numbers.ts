/** Reads tensors, and checks for leaks. */
import * as tf from '@tensorflow/tfjs';

/** Returns the values of a tensor, and disposes it. */
export async function take(tensor: tf.Tensor): Promise<number[]> {
  const values = Array.from(await tensor.data());
  tensor.dispose();
  return values;
}

/** Calls `run`, and checks that it leaves no tensors behind. */
export async function expectNoLeak(run: () => Promise<void> | void): Promise<void> {
  const before = tf.memory().numTensors;
  await run();
  expect(tf.memory().numTensors).toBe(before);
}

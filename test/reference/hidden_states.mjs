/** Hidden states for named inputs, for the steps of the checks in this folder. */
import * as tf from '@tensorflow/tfjs';

/** Returns the hidden states (B, T, D) of a backbone as a flat list. `inputs` holds nested arrays by name. */
export async function hiddenStates(backbone, inputs) {
  const tensors = Object.entries(inputs).map(([name, value]) => [
    name,
    tf.tensor(value, undefined, name === 'images' ? 'float32' : 'int32'),
  ]);
  const hidden = backbone.predict(Object.fromEntries(tensors));
  const values = Array.from(await hidden.data());
  tf.dispose([hidden, ...tensors.map(([, tensor]) => tensor)]);
  return values;
}

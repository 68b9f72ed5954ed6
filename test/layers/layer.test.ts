import * as tf from '@tensorflow/tfjs';
import {EinsumDense} from '../../src/layers/einsum_dense';
test('x', () => {
  const l = new EinsumDense({equation: 'ab,bc->ac', outputShape: 3});
  const before = tf.memory().numTensors;
  l.build([null, 4]);
  console.log(before, tf.memory().numTensors, (l as any)._refCount);
  try { console.log(l.dispose(), tf.memory().numTensors); } catch (e) { console.log(String(e)); }
  const l2 = new EinsumDense({equation: 'ab,bc->ac', outputShape: 3});
  l2.apply(tf.zeros([2, 4]));
  console.log(l2.dispose(), tf.memory().numTensors, l2.weights.length);
});

/** tfjs' operations that training runs so often that their cost outside TensorFlow matters. */
import * as tf from '@tensorflow/tfjs';
import {type AdamStepAttrs} from '../../../ops/adam_step';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, INT32} from '../device';

/** Keeps the shape as a constant. tfjs' own kernel creates it again for every call. */
const reshape =
  (device: Device, stock: tf.KernelFunc): tf.KernelFunc =>
  params => {
    const x = params.inputs.x as tf.TensorInfo;
    const type = x.dtype === 'float32' ? FLOAT : x.dtype === 'int32' ? INT32 : undefined;
    if (type === undefined || device.matrices.has(x.dataId)) return stock(params);
    const {shape} = params.attrs as object as {shape: number[]};
    const own = tf.util.inferFromImplicitShape(shape, tf.util.sizeFromShape(x.shape));
    return device.program(p => p.take(p.reshape(p.of(x), own, type), own, x.dtype as 'float32' | 'int32'));
  };

export const plainKernels = (device: Device, stockReshape: tf.KernelFunc): KernelMap => ({
  Reshape: reshape(device, stockReshape),
  Gemma3AdamStep: ({inputs, attrs}) => {
    const {variable, gradient, momentum, velocity} = inputs as Record<string, tf.TensorInfo>;
    const {beta1, beta2, epsilon, alpha} = attrs as object as AdamStepAttrs;
    return device.program(p => {
      const slope = p.of(gradient!);
      const mean = (before: number, value: number, rate: number) =>
        p.add(before, p.scale(p.sub(value, before), 1 - rate));
      const m = mean(p.of(momentum!), slope, beta1);
      const v = mean(p.of(velocity!), p.square(slope), beta2);
      // Another one at each step: it is no constant of the device.
      const rate = p.values(Float32Array.of(alpha), []);
      const step = p.div(p.mul(m, rate), p.plus(p.sqrt(v), epsilon));
      return [p.sub(p.of(variable!), step), m, v].map(id => p.take(id, variable!.shape));
    });
  },
});

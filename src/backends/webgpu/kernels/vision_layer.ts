/** `Gemma3VisionEncoderLayer`: a layer of the vision encoder, its products with packed or float32 kernels. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type VisionDenseName, type VisionLayerAttrs, type VisionLayerInput} from '../../../ops/vision_layer';
import {type KernelMap} from '../../kernel_map';
import {type WebGpuBackend} from '../webgpu_backend';
import {attention, queryTile} from '../wgsl/attention';
import {finishDense} from '../wgsl/elementwise';
import {layerNorm} from '../wgsl/norms';
import {checkWidth} from './attention';
import {kernel} from './kernel';
import {multiply} from './products';
import {Scratch} from './scratch';

type Inputs = Record<VisionLayerInput, tf.TensorInfo>;

/** Some images (B, T, D) through the layer → (B, T, D). */
function runLayer(backend: WebGpuBackend, inputs: Inputs, attrs: VisionLayerAttrs): tf.TensorInfo {
  const {x} = inputs;
  const {forms, numHeads, intermediateDim, epsilons} = attrs;
  const [batch, length, columns] = x.shape as [number, number, number];
  const rows = batch * length;
  const scratch = new Scratch(backend);

  const dense = (
    name: VisionDenseName,
    from: tf.TensorInfo,
    [outputs, columns]: [outputs: number, inputs: number],
    after: 'gelu' | 'nothing' | tf.TensorInfo = 'nothing',
  ) => {
    const {packing, inner} = forms[name];
    const matrix = {
      tensor: inputs[name],
      format: packing?.format ?? ('float32' as const),
      rows: outputs,
      columns,
      inner,
    };
    const y = multiply(backend, from, matrix);
    const count = rows * outputs;
    const other = typeof after === 'object' ? [after] : [];
    backend.run(finishDense({after: typeof after === 'object' ? 'add' : after}), {
      tensors: [inputs[`${name}Bias`], ...other, y],
      numbers: {count, columns: outputs},
      groups: Math.ceil(count / 64),
    });
    return y;
  };
  const norm = (name: 'norm1' | 'norm2', from: tf.TensorInfo) => {
    const y = scratch.empty([rows, columns]);
    const tensors = [from, inputs[`${name}Gamma`], inputs[`${name}Beta`], y];
    backend.run(layerNorm, {tensors, numbers: {rows, columns, epsilon: epsilons[name]}, groups: rows});
    return y;
  };

  const normed = norm('norm1', x);
  const [q, k, v] = (['query', 'key', 'value'] as const).map(name =>
    scratch.add(dense(name, normed, [columns, columns])),
  ) as [tf.TensorInfo, tf.TensorInfo, tf.TensorInfo];
  const attended = scratch.empty([rows, columns]);
  const width = columns / numHeads;
  const tile = queryTile(length, width);
  backend.run(attention({positions: false, padding: false, images: false, mask: false, halves: false, ...tile}), {
    tensors: [q, k, v, attended],
    numbers: {
      ...{batch, length, keys: length, queryHeads: numHeads, keyHeads: numHeads, width},
      ...{scale: 1 / Math.sqrt(width), cap: 0, left: 0, right: 0, bidirectional: 1},
      ...{queryRows: 0, keyRows: 0, maskRows: 0, maskLength: 0},
    },
    groups: batch * Math.ceil(length / tile.queries) * numHeads,
  });
  const between = scratch.add(dense('output', attended, [columns, columns], x));
  const inner = scratch.add(dense('inner', norm('norm2', between), [intermediateDim, columns], 'gelu'));
  const y = dense('outer', inner, [columns, intermediateDim], between);
  scratch.dispose();
  return {...y, shape: [batch, length, columns]};
}

/** As many images at once as the device can bind tensors of. */
const visionLayerKernel = kernel<VisionLayerInput, VisionLayerAttrs>((backend, inputs, attrs) => {
  const {x} = inputs;
  const [batch, length, columns] = x.shape as [number, number, number];
  checkWidth(columns / attrs.numHeads);
  if (sizeOf(x.shape) === 0) return backend.empty(x.shape);
  const bytes = 4 * length * Math.max(columns, attrs.intermediateDim);
  const most = Math.max(1, Math.floor(backend.device.limits.maxStorageBufferBindingSize / bytes));
  if (batch <= most) return runLayer(backend, inputs, attrs);
  return tf.tidy(() => {
    const parts: tf.Tensor[] = [];
    for (let first = 0; first < batch; first += most) {
      const some = tf.slice(x as tf.Tensor, [first, 0, 0], [Math.min(most, batch - first), length, columns]);
      parts.push(tf.engine().makeTensorFromTensorInfo(runLayer(backend, {...inputs, x: some}, attrs)));
    }
    return tf.concat(parts);
  });
});

export const visionLayerKernels: KernelMap = {Gemma3VisionEncoderLayer: visionLayerKernel};

/** Kernels of tfjs that this backend must replace: int32 `mod`, `gather`, `transpose`; `argMax`, `argMin`, `topk`. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type KernelMap} from '../../kernel_map';
import {type WebGpuBackend} from '../webgpu_backend';
import {best, type BestVariant} from '../wgsl/best';
import {axisNumbers, gatherWords, modulus, transpose} from '../wgsl/stock';
import {kernel} from './kernel';
import {runTopK} from './sampling';

const MOST_AXES = 6;

const stridesOf = (shape: readonly number[]) => shape.map((_, axis) => sizeOf(shape.slice(axis + 1)));

/** Strides of a tensor that is broadcast to `rank` axes: 0 along those that it repeats. */
const broadcastStrides = (shape: readonly number[], rank: number) => {
  const strides = stridesOf(shape).map((stride, axis) => (shape[axis] === 1 ? 0 : stride));
  return [...Array.from({length: rank - shape.length}, () => 0), ...strides];
};

/** Removes axes of size 1, and joins axes that stay adjacent, so that six axes are enough for most tensors. */
function joinAxes(shape: readonly number[], perm: readonly number[]): {sizes: number[]; strides: number[]} {
  const all = stridesOf(shape);
  const sizes: number[] = [];
  const strides: number[] = [];
  for (const axis of perm) {
    if (shape[axis] === 1) continue;
    const last = sizes.length - 1;
    if (last >= 0 && strides[last] === all[axis]! * shape[axis]!) {
      sizes[last]! *= shape[axis]!;
      strides[last] = all[axis]!;
    } else {
      sizes.push(shape[axis]!);
      strides.push(all[axis]!);
    }
  }
  return {sizes, strides};
}

const transposeKernel = kernel<'x', {perm: number[]}>((backend, {x}, {perm}) => {
  const shape = perm.map(axis => x.shape[axis]!);
  const y = backend.empty(shape, x.dtype as 'float32');
  const count = sizeOf(shape);
  const {sizes, strides} = joinAxes(x.shape, perm);
  if (sizes.length > MOST_AXES)
    throw new Error(`Expected at most ${MOST_AXES} axes in a different order. Received: [${x.shape}].`);
  const numbers = {count, ...axisNumbers('size', sizes, 1), ...axisNumbers('from', strides, 0)};
  backend.run(transpose, {tensors: [x, y], numbers, groups: Math.ceil(count / 64)});
  return y;
});

/** For other types, tfjs' own kernel, which is correct for them. */
const modKernel =
  (stock: tf.KernelFunc): tf.KernelFunc =>
  params => {
    const {a, b} = params.inputs as {a: tf.TensorInfo; b: tf.TensorInfo};
    if (a.dtype !== 'int32' || b.dtype !== 'int32') return stock(params);
    const backend = params.backend as WebGpuBackend;
    const shape = tf.broadcast_util.assertAndGetBroadcastShape(a.shape, b.shape);
    const y = backend.empty(shape, 'int32');
    const count = sizeOf(shape);
    const numbers = {
      count,
      ...axisNumbers('size', shape, 1),
      ...axisNumbers('left', broadcastStrides(a.shape, shape.length), 0),
      ...axisNumbers('right', broadcastStrides(b.shape, shape.length), 0),
    };
    backend.run(modulus, {tensors: [a, b, y], numbers, groups: Math.ceil(count / 64)});
    return y;
  };

/** tfjs' own kernel reads int32 as float32, which rounds large numbers. */
const gatherKernel =
  (stock: tf.KernelFunc): tf.KernelFunc =>
  params => {
    const {x, indices} = params.inputs as {x: tf.TensorInfo; indices: tf.TensorInfo};
    const {axis, batchDims} = params.attrs as {axis: number; batchDims: number};
    if (x.dtype !== 'int32' || axis !== 0 || batchDims !== 0) return stock(params);
    const backend = params.backend as WebGpuBackend;
    const [rows, ...row] = x.shape as [number, ...number[]];
    const y = backend.empty([...indices.shape, ...row], 'int32');
    const count = sizeOf(y.shape);
    const numbers = {count, rows, width: sizeOf(row)};
    backend.run(gatherWords, {tensors: [x, indices, y], numbers, groups: Math.ceil(count / 64)});
    return y;
  };

/** The index of the best value along an axis. */
export function runBest(backend: WebGpuBackend, x: tf.TensorInfo, axis: number, variant: Omit<BestVariant, 'type'>) {
  const outer = x.shape.slice(0, axis);
  const inner = x.shape.slice(axis + 1);
  const y = backend.empty([...outer, ...inner], 'int32');
  const results = sizeOf(y.shape);
  const type = x.dtype === 'float32' ? 'float32' : 'int32';
  const numbers = {results, count: x.shape[axis]!, inner: sizeOf(inner)};
  backend.run(best({type, ...variant}), {tensors: [x, y], numbers, groups: results});
  return y;
}

const bestKernel = (least: boolean) =>
  kernel<'x', {axis: number | number[]}>((backend, {x}, {axis}) => {
    const [one] = tf.util.parseAxisParam(axis, x.shape) as [number];
    return runBest(backend, x, one, {least, strict: false});
  });

const topKKernel = kernel<'x', {k: number}>((backend, {x}, {k}) => {
  const shape = [...x.shape.slice(0, -1), k];
  const values = backend.empty(shape);
  const indices = backend.empty(shape, 'int32');
  if (sizeOf(shape) > 0) runTopK(backend, x, k, [values, indices]);
  return [values, indices];
});

/** @param stock the kernels of tfjs that these replace. */
export const stockKernels = (stock: (name: string) => tf.KernelFunc): KernelMap => ({
  Transpose: transposeKernel,
  Mod: modKernel(stock('Mod')),
  GatherV2: gatherKernel(stock('GatherV2')),
  ArgMax: bestKernel(false),
  ArgMin: bestKernel(true),
  TopK: params => (params.inputs.x!.dtype === 'float32' ? topKKernel : stock('TopK'))(params),
});

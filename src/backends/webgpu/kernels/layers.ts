/** Norms, rotary embedding, GELU and the cache, and their gradients. */
import type * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type CacheUpdateAttrs} from '../../../ops/cache_update';
import {type KernelMap} from '../../kernel_map';
import {packBfloat16} from '../wgsl/bfloat16';
import {cacheUpdate, gatedGelu, gelu, geluGradient, rotary} from '../wgsl/elementwise';
import {layerNorm, normGradientScale, normGradientX, normStatistics, rmsNorm} from '../wgsl/norms';
import {kernel} from './kernel';

const rmsNormKernel = kernel<'x' | 'scale', {epsilon: number}>((backend, {x, scale}, {epsilon}) => {
  const columns = x.shape.at(-1)!;
  const rows = sizeOf(x.shape) / Math.max(1, columns);
  const y = backend.empty(x.shape);
  backend.run(rmsNorm, {tensors: [x, scale, y], numbers: {rows, columns, epsilon}, groups: columns ? rows : 0});
  return y;
});

/** Rows and columns of a norm over the last axis. */
const normed = ({shape}: tf.TensorInfo) => {
  const columns = shape.at(-1)!;
  return {columns, rows: columns ? sizeOf(shape) / columns : 0};
};

const layerNormKernel = kernel<'x' | 'gamma' | 'beta', {epsilon: number}>((backend, inputs, {epsilon}) => {
  const {x, gamma, beta} = inputs;
  const y = backend.empty(x.shape);
  const size = normed(x);
  backend.run(layerNorm, {tensors: [x, gamma, beta, y], numbers: {...size, epsilon}, groups: size.rows});
  return y;
});

/** @param name of the scale. */
const normGradientXKernel = <Name extends 'scale' | 'gamma'>(name: Name) =>
  kernel<'dy' | 'x' | Name, {epsilon: number}>((backend, inputs, {epsilon}) => {
    const {dy, x, [name]: scale} = inputs;
    const y = backend.empty(x.shape);
    const size = normed(x);
    const program = normGradientX({centred: name === 'gamma'});
    backend.run(program, {tensors: [dy, x, scale, y], numbers: {...size, epsilon}, groups: size.rows});
    return y;
  });

const normGradientScaleKernel = (centred: boolean) =>
  kernel<'dy' | 'x', {epsilon: number}>((backend, {dy, x}, {epsilon}) => {
    const size = normed(x);
    const y = backend.empty([size.columns]);
    const statistics = backend.empty([size.rows, 2]);
    const groups = size.rows;
    backend.run(normStatistics({centred}), {tensors: [x, statistics], numbers: {...size, epsilon}, groups});
    const across = Math.ceil(size.columns / normGradientScale.size);
    backend.run(normGradientScale, {tensors: [dy, x, statistics, y], numbers: size, groups: across});
    backend.disposeData(statistics.dataId);
    return y;
  });

const rotaryKernel = (direction: 1 | -1) =>
  kernel<'x' | 'cos' | 'sin'>((backend, {x, cos, sin}) => {
    const heads = x.shape[2]!;
    const half = x.shape[3]! / 2;
    const y = backend.empty(x.shape);
    const pairs = sizeOf(x.shape) / 2;
    const numbers = {pairs, half, heads, angles: sizeOf(cos.shape), direction};
    backend.run(rotary, {tensors: [x, cos, sin, y], numbers, groups: Math.ceil(pairs / 64)});
    return y;
  });

const geluKernel = kernel<'x'>((backend, {x}) => {
  const y = backend.empty(x.shape);
  const count = sizeOf(x.shape);
  backend.run(gelu, {tensors: [x, y], numbers: {count}, groups: Math.ceil(count / 64)});
  return y;
});

const geluGradientKernel = kernel<'dy' | 'x', object, 'value'>((backend, {dy, x, value}) => {
  const y = backend.empty(x.shape);
  const count = sizeOf(x.shape);
  const tensors = [dy, x, ...(value ? [value] : []), y];
  backend.run(geluGradient({gated: !!value}), {tensors, numbers: {count}, groups: Math.ceil(count / 64)});
  return y;
});

const gatedGeluKernel = kernel<'gate' | 'value'>((backend, {gate, value}) => {
  const y = backend.empty(gate.shape);
  const count = sizeOf(gate.shape);
  backend.run(gatedGelu, {tensors: [gate, value, y], numbers: {count}, groups: Math.ceil(count / 64)});
  return y;
});

/** In place: the result is the cache itself. */
const cacheUpdateKernel = kernel<'cache' | 'update', CacheUpdateAttrs>((backend, inputs, {starts, lengths}) => {
  const {cache, update} = inputs;
  const [batch, capacity, keyHeads, headDim] = cache.shape as [number, number, number, number];
  const width = keyHeads * headDim;
  const length = update.shape[1]!;
  const pairs = Int32Array.from({length: 2 * batch}, (_, i) => (i % 2 ? lengths : starts)[i >> 1]!);
  const rows = backend.makeTensorInfo([2 * batch], 'int32', pairs);
  const count = sizeOf(update.shape);
  const numbers = {count, length, width, capacity};
  backend.run(cacheUpdate, {tensors: [update, rows, cache], numbers, groups: Math.ceil(count / 64)});
  backend.disposeData(rows.dataId);
  backend.changed(cache);
  backend.incRef(cache.dataId);
  return {dataId: cache.dataId, shape: cache.shape, dtype: cache.dtype};
});

const packBfloat16Kernel = kernel<'x'>((backend, {x}) => {
  const y = backend.empty([...x.shape.slice(0, -1), x.shape.at(-1)! / 2], 'int32');
  const count = sizeOf(y.shape);
  backend.run(packBfloat16, {tensors: [x, y], numbers: {count}, groups: Math.ceil(count / 64)});
  return y;
});

export const layerKernels: KernelMap = {
  Gemma3RmsNorm: rmsNormKernel,
  Gemma3RmsNormGradientX: normGradientXKernel('scale'),
  Gemma3RmsNormGradientScale: normGradientScaleKernel(false),
  Gemma3LayerNorm: layerNormKernel,
  Gemma3LayerNormGradientX: normGradientXKernel('gamma'),
  Gemma3LayerNormGradientGamma: normGradientScaleKernel(true),
  Gemma3Rotary: rotaryKernel(1),
  Gemma3RotaryGradient: rotaryKernel(-1),
  Gemma3Gelu: geluKernel,
  Gemma3GeluGradient: geluGradientKernel,
  Gemma3GatedGelu: gatedGeluKernel,
  Gemma3CacheUpdate: cacheUpdateKernel,
  Gemma3PackBfloat16: packBfloat16Kernel,
};

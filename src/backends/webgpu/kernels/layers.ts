/** Norms, rotary embedding, GELU, attention and the cache. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type AttentionAttrs, attentionVisibility} from '../../../ops/attention';
import {type CacheUpdateAttrs} from '../../../ops/cache_update';
import {type KernelMap} from '../../kernel_map';
import {attention, MOST_FEATURES} from '../wgsl/attention';
import {cacheUpdate, gatedGelu, gelu, rotary} from '../wgsl/elementwise';
import {rmsNorm} from '../wgsl/norms';
import {kernel} from './kernel';

const rmsNormKernel = kernel<'x' | 'scale', {epsilon: number}>((backend, {x, scale}, {epsilon}) => {
  const columns = x.shape.at(-1)!;
  const rows = sizeOf(x.shape) / Math.max(1, columns);
  const y = backend.empty(x.shape);
  backend.run(rmsNorm, {tensors: [x, scale, y], numbers: {rows, columns, epsilon}, groups: columns ? rows : 0});
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

type AttentionNames = 'q' | 'k' | 'v' | 'queryPositions' | 'keyPositions';
type AttentionOptions = 'paddingMask' | 'queryImages' | 'keyImages' | 'attentionMask';

/** Distances that a query sees to the left and right. */
function reach({window, bidirectional}: AttentionAttrs): {left: number; right: number} {
  if (window === null) return {left: 2 ** 30, right: 2 ** 30};
  const right = bidirectional ? Math.floor(window / 2) : window - 1;
  return {left: bidirectional ? window - right - 1 : window - 1, right};
}

/** Masks that the program does not read, as one that it does: boolean (1 or B, 1 or T, S). */
const asMask = (inputs: Record<string, tf.TensorInfo>, attrs: AttentionAttrs): tf.Tensor =>
  attentionVisibility(inputs as object as Parameters<typeof attentionVisibility>[0], attrs);

/** Numbers of images of queries, then of keys, (B · T + B · S). */
const joined = (queries: tf.TensorInfo, keys: tf.TensorInfo): tf.Tensor =>
  tf.tidy(() => tf.concat([queries, keys].map(one => tf.reshape(one as tf.Tensor, [-1]))));

const attentionKernel = kernel<AttentionNames, AttentionAttrs, AttentionOptions>((backend, inputs, attrs) => {
  const {q, k, v, queryPositions, keyPositions, paddingMask, queryImages, keyImages, attentionMask} = inputs;
  const [batch, length, queryHeads, width] = q.shape as [number, number, number, number];
  const [, keys, keyHeads] = k.shape as [number, number, number, number];
  if (width > MOST_FEATURES) {
    throw new Error(`Expected heads of at most ${MOST_FEATURES} features on the backend "webgpu". Received: ${width}.`);
  }
  const y = backend.empty(q.shape);
  const images = !!queryImages && !!keyImages && !attrs.bidirectional;
  const padding = paddingMask !== undefined;
  const mask = attentionMask ? asMask(inputs as Record<string, tf.TensorInfo>, attrs) : undefined;
  const numbers = {
    batch,
    length,
    keys,
    queryHeads,
    keyHeads,
    width,
    scale: attrs.scale,
    cap: attrs.logitSoftCap ?? 0,
    queryRows: queryPositions.shape[0]!,
    keyRows: keyPositions.shape[0]!,
    maskRows: mask?.shape[0] ?? 0,
    maskLength: mask?.shape[1] ?? 0,
    ...reach(attrs),
    bidirectional: Number(attrs.bidirectional),
  };
  const groups = batch * length * queryHeads;
  if (mask) {
    backend.run(attention({padding: false, images: false, mask: true}), {tensors: [q, k, v, mask, y], numbers, groups});
    mask.dispose();
    return y;
  }
  const pictures = images ? joined(queryImages, keyImages) : undefined;
  const tensors = [q, k, v, queryPositions, keyPositions, paddingMask, pictures, y].filter(one => one !== undefined);
  backend.run(attention({padding, images, mask: false}), {tensors, numbers, groups});
  pictures?.dispose();
  return y;
});

export const layerKernels: KernelMap = {
  Gemma3RmsNorm: rmsNormKernel,
  Gemma3Rotary: rotaryKernel(1),
  Gemma3RotaryGradient: rotaryKernel(-1),
  Gemma3Gelu: geluKernel,
  Gemma3GatedGelu: gatedGeluKernel,
  Gemma3CacheUpdate: cacheUpdateKernel,
  Gemma3Attention: attentionKernel,
};

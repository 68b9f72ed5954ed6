/** `Gemma3Attention` and its gradients: see `ops/attention.ts`. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type AttentionAttrs, attentionVisibility} from '../../../ops/attention';
import {type KernelMap} from '../../kernel_map';
import {attention, MOST_FEATURES, queryTile} from '../wgsl/attention';
import {attentionGradientKV, attentionGradientQ, attentionStatistics} from '../wgsl/attention_gradient';
import {kernel} from './kernel';

/** @throws Error for heads of more features than a workgroup has room for. */
export function checkWidth(width: number): void {
  if (width <= MOST_FEATURES) return;
  throw new Error(`Expected heads of at most ${MOST_FEATURES} features on the backend "webgpu". Received: ${width}.`);
}

type AttentionNames = 'q' | 'k' | 'v' | 'queryPositions' | 'keyPositions';
type AttentionOptions = 'paddingMask' | 'queryImages' | 'keyImages' | 'attentionMask';

/** Distances that a query sees to the left and right. */
function reach({window, bidirectional}: AttentionAttrs): {left: number; right: number} {
  if (window === null) return {left: 2 ** 30, right: 2 ** 30};
  const right = bidirectional ? Math.floor(window / 2) : window - 1;
  return {left: bidirectional ? window - right - 1 : window - 1, right};
}

/** Combines masks that the program does not read into one that it does: boolean (1 or B, 1 or T, S). */
const asMask = (inputs: Record<string, tf.TensorInfo>, attrs: AttentionAttrs): tf.Tensor =>
  attentionVisibility(inputs as object as Parameters<typeof attentionVisibility>[0], attrs);

/** Numbers of images of queries, then of keys, (B · T + B · S). */
const joined = (queries: tf.TensorInfo, keys: tf.TensorInfo): tf.Tensor =>
  tf.tidy(() => tf.concat([queries, keys].map(one => tf.reshape(one as tf.Tensor, [-1]))));

const attentionKernel = kernel<AttentionNames, AttentionAttrs, AttentionOptions>((backend, inputs, attrs) => {
  const {q, k, v, queryPositions, keyPositions, paddingMask, queryImages, keyImages, attentionMask} = inputs;
  const [batch, length, queryHeads, width] = q.shape as [number, number, number, number];
  const [, keys, keyHeads] = k.shape as [number, number, number, number];
  checkWidth(width);
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
  const tile = {...queryTile(length, width), halves: k.dtype === 'int32'};
  const groups = batch * Math.ceil(length / tile.queries) * queryHeads;
  const none = {positions: false, padding: false, images: false, mask: false, ...tile};
  if (mask) {
    backend.run(attention({...none, mask: true}), {tensors: [q, k, v, mask, y], numbers, groups});
    mask.dispose();
    return y;
  }
  const pictures = images ? joined(queryImages, keyImages) : undefined;
  const tensors = [q, k, v, queryPositions, keyPositions, paddingMask, pictures, y].filter(one => one !== undefined);
  backend.run(attention({...none, positions: true, padding, images}), {tensors, numbers, groups});
  pictures?.dispose();
  return y;
});

const attentionGradientKernel = kernel<AttentionNames | 'dy', AttentionAttrs, AttentionOptions>(
  (backend, inputs, attrs) => {
    const {q, k, v, dy} = inputs;
    const [batch, length, queryHeads, width] = q.shape as [number, number, number, number];
    const [, keys, keyHeads] = k.shape as [number, number, number, number];
    checkWidth(width);
    const [dq, dk, dv] = [q, k, v].map(({shape}) => backend.empty(shape)) as [
      tf.TensorInfo,
      tf.TensorInfo,
      tf.TensorInfo,
    ];
    const queries = batch * length * queryHeads;
    if (sizeOf(q.shape) === 0 || sizeOf(k.shape) === 0) return [dq, dk, dv];
    const mask = asMask(inputs as Record<string, tf.TensorInfo>, attrs);
    const numbers = {
      ...{batch, length, keys, queryHeads, keyHeads, width, scale: attrs.scale, cap: attrs.logitSoftCap ?? 0},
      ...{maskRows: mask.shape[0]!, maskLength: mask.shape[1]!},
    };
    const statistics = backend.empty([queries, 3]);
    const given = [q, k, v, dy, mask];
    backend.run(attentionStatistics, {tensors: [...given, statistics], numbers, groups: queries});
    backend.run(attentionGradientQ, {tensors: [...given, statistics, dq], numbers, groups: queries});
    const groups = batch * keys * keyHeads;
    backend.run(attentionGradientKV, {tensors: [...given, statistics, dk, dv], numbers, groups});
    backend.disposeData(statistics.dataId);
    mask.dispose();
    return [dq, dk, dv];
  },
);

export const attentionKernels: KernelMap = {
  Gemma3Attention: attentionKernel,
  Gemma3AttentionGradient: attentionGradientKernel,
};

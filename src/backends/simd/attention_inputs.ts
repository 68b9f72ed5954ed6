/** What kernels of attention and its gradients have in common: inputs and attributes of `ops/attention.ts` as arguments. */
import type * as tf from '@tensorflow/tfjs';
import {type AttentionAttrs} from '../../ops/attention';
import {type AttentionArgs} from './commands';
import {type Placed, type SimdBackend} from './simd_backend';

export interface AttentionPlaces {
  args: Omit<AttentionArgs, 'y'>;
  /** Gives up what was made for the call. */
  release: () => void;
}

export function locateAttention(
  backend: SimdBackend,
  tensors: Record<string, tf.TensorInfo>,
  {scale, logitSoftCap, window, bidirectional}: AttentionAttrs,
): AttentionPlaces {
  const [batch, length, heads, width] = tensors.q!.shape as [number, number, number, number];
  const [, size, keyHeads] = tensors.k!.shape as [number, number, number];
  const at = (name: string) => (tensors[name] ? backend.locate(tensors[name]) : undefined);
  const mask = tensors.attentionMask && toFloat(backend, tensors.attentionMask);
  const args = {
    ...{q: at('q')!, k: at('k')!, v: at('v')!},
    ...{batch, length, heads, size, keyHeads, width, scale, logitSoftCap, window, bidirectional},
    queryPositions: at('queryPositions')!,
    queryPositionRows: tensors.queryPositions!.shape[0]!,
    keyPositions: at('keyPositions')!,
    keyPositionRows: tensors.keyPositions!.shape[0]!,
    padding: at('paddingMask'),
    queryImages: at('queryImages'),
    keyImages: at('keyImages'),
    mask: mask?.offset,
    maskRows: mask?.shape[0],
  };
  return {args, release: () => mask && backend.disposeIntermediateTensorInfo(mask)};
}

/** A mask of any type as float32. */
function toFloat(backend: SimdBackend, {dataId, shape}: tf.TensorInfo): Placed {
  const placed = backend.empty(shape);
  (backend.data.get(placed.dataId).values as Float32Array).set(backend.data.get(dataId).values as Float32Array);
  return placed;
}

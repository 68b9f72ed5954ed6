/** What kernels of attention and its gradients have in common: inputs and attributes of `ops/attention.ts` as arguments. */
import * as tf from '@tensorflow/tfjs';
import {type AttentionAttrs} from '../../../ops/attention';
import {valuesOf} from '../../cpu/cpu_backend';
import {type Call} from '../memory/call';
import {type AttentionArgs} from '../engine/commands';
import {type Tensors} from './kernel';
import {type SimdBackend} from '../memory/simd_backend';

export interface AttentionCall {
  call: Call;
  args: Omit<AttentionArgs, 'y' | 'partials'>;
}

/** A call whose room begins with so many bytes for the command, a multiple of four. */
export function attentionCall(
  backend: SimdBackend,
  {attentionMask: mask, ...tensors}: Tensors,
  {scale, logitSoftCap, window, bidirectional}: AttentionAttrs,
  {room, ...results}: {shape: number[]; more?: readonly number[][]; room: number},
): AttentionCall {
  const [batch, length, heads, width] = tensors.q!.shape as [number, number, number, number];
  const [, size, keyHeads] = tensors.k!.shape as [number, number, number];
  const maskBytes = mask ? 4 * tf.util.sizeFromShape(mask.shape) : 0;
  const call = backend.call(tensors, {...results, room: room + maskBytes});
  // A mask of any type, as float32.
  if (mask) call.words.floats.set(valuesOf(backend, mask), (call.room + room) / 4);
  const args = {
    ...{q: call.at('q'), k: call.at('k'), v: call.at('v')},
    ...{batch, length, heads, size, keyHeads, width, scale, logitSoftCap, window, bidirectional},
    queryPositions: call.at('queryPositions'),
    queryPositionRows: tensors.queryPositions!.shape[0]!,
    keyPositions: call.at('keyPositions'),
    keyPositionRows: tensors.keyPositions!.shape[0]!,
    padding: call.maybeAt('paddingMask'),
    queryImages: call.maybeAt('queryImages'),
    keyImages: call.maybeAt('keyImages'),
    mask: mask && call.room + room,
    maskRows: mask?.shape[0],
  };
  return {call, args};
}

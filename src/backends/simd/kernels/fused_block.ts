/** `Gemma3DecoderBlock`: one token a row through a whole block, in one command. See `ops/decoder_block.ts`. */
import type * as tf from '@tensorflow/tfjs';
import {type DecoderBlockAttrs, type DenseForm} from '../../../ops/fused_block';
import {type Call} from '../memory/call';
import {decoderBlock, type DenseArgs, decoderBlockWorkspaceBytes, FLOAT32} from '../engine/commands';
import {TYPES} from '../packing/packing';
import {type SimdBackend} from '../memory/simd_backend';

function dense(call: Call, name: string, {format, inner}: DenseForm): DenseArgs {
  return {type: format === 'float32' ? FLOAT32 : TYPES[format], w: call.at(name), inner};
}

/** Runs for every block of every token: plain objects, no spreads (V8 takes tens of microseconds for those). */
export const decoderBlockKernel: tf.KernelFunc = ({inputs, backend: kernelBackend, attrs}) => {
  const backend = kernelBackend as SimdBackend;
  const tensors = inputs as unknown as Record<string, tf.TensorInfo>;
  const a = attrs as unknown as DecoderBlockAttrs;
  const {forms, cos: cosines, sin: sines} = a;
  const [batch, , hiddenDim] = tensors.x!.shape as [number, number, number];
  const [, capacity, numKeyValueHeads, headDim] = tensors.keys!.shape as [number, number, number, number];
  const {gateDim, numQueryHeads} = a;
  const sizes = {batch, hiddenDim, gateDim, numQueryHeads, numKeyValueHeads, headDim};

  const workspaceBytes = Math.ceil(decoderBlockWorkspaceBytes(sizes, backend.engine.threads) / 4) * 4;
  const angles = cosines.byteLength;
  const call = backend.call(tensors, {
    shape: [batch, 1, hiddenDim],
    room: workspaceBytes + 2 * angles + 4 * batch,
    // x and the cache come to the weights; from then on the cache is there.
    home: Object.keys(forms),
  });
  const cos = call.room + workspaceBytes;
  const sin = cos + angles;
  const positions = sin + angles;
  const {floats, ints} = call.words;
  floats.set(cosines, cos / 4);
  floats.set(sines, sin / 4);
  ints.set(a.positions, positions / 4);
  return call.run(
    decoderBlock({
      batch,
      hiddenDim,
      gateDim,
      numQueryHeads,
      numKeyValueHeads,
      headDim,
      x: call.at('x'),
      y: call.y,
      epsilon: a.epsilon,
      scale: a.scale,
      logitSoftCap: a.logitSoftCap,
      window: a.window,
      cachedKeys: call.at('keys'),
      cachedValues: call.at('values'),
      capacity,
      positions,
      cos,
      sin,
      tableRows: cosines.length / (headDim / 2),
      norms: {
        preAttention: call.at('preAttention'),
        postAttention: call.maybeAt('postAttention'),
        preFfw: call.at('preFfw'),
        postFfw: call.maybeAt('postFfw'),
        query: call.maybeAt('queryNorm'),
        key: call.maybeAt('keyNorm'),
      },
      query: dense(call, 'query', forms.query),
      key: dense(call, 'key', forms.key),
      value: dense(call, 'value', forms.value),
      output: dense(call, 'output', forms.output),
      gate: dense(call, 'gate', forms.gate),
      up: dense(call, 'up', forms.up),
      down: dense(call, 'down', forms.down),
      workspace: call.room,
    }),
  );
};

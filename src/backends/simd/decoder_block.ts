/** `Gemma3DecoderBlock`: one token a row through a whole block, in one command. See `ops/decoder_block.ts`. */
import type * as tf from '@tensorflow/tfjs';
import {type DecoderBlockAttrs, type DenseName} from '../../ops/decoder_block';
import {decoderBlock, type DenseArgs, decoderBlockWorkspaceBytes, FLOAT32} from './commands';
import {TYPES} from './packing';
import {type SimdBackend} from './simd_backend';

export const decoderBlockKernel: tf.KernelFunc = ({inputs, backend: kernelBackend, attrs}) => {
  const backend = kernelBackend as SimdBackend;
  const tensors = inputs as unknown as Record<string, tf.TensorInfo>;
  const a = attrs as unknown as DecoderBlockAttrs;
  const [batch, , hiddenDim] = tensors.x!.shape as [number, number, number];
  const [, capacity, numKeyValueHeads, headDim] = tensors.keys!.shape as [number, number, number, number];
  const sizes = {batch, hiddenDim, gateDim: a.gateDim, numQueryHeads: a.numQueryHeads, numKeyValueHeads, headDim};

  const workspaceBytes = Math.ceil(decoderBlockWorkspaceBytes(sizes, backend.engine.threads) / 4) * 4;
  const angles = a.cos.byteLength;
  const call = backend.call(tensors, {
    shape: [batch, 1, hiddenDim],
    room: workspaceBytes + 2 * angles + 4 * batch,
    // x and the cache come to the weights; from then on the cache is there.
    home: Object.keys(a.forms),
  });
  const dense = (name: DenseName): DenseArgs => {
    const {format, inner} = a.forms[name];
    return {type: format === 'float32' ? FLOAT32 : TYPES[format], w: call.at(name), inner};
  };
  const places = {
    ...{x: call.at('x'), cachedKeys: call.at('keys'), cachedValues: call.at('values'), y: call.y},
    ...{query: dense('query'), key: dense('key'), value: dense('value'), output: dense('output')},
    ...{gate: dense('gate'), up: dense('up'), down: dense('down')},
    norms: {
      preAttention: call.at('preAttention'),
      postAttention: call.maybeAt('postAttention'),
      preFfw: call.at('preFfw'),
      postFfw: call.maybeAt('postFfw'),
      query: call.maybeAt('queryNorm'),
      key: call.maybeAt('keyNorm'),
    },
  };
  const cos = call.room + workspaceBytes;
  const sin = cos + angles;
  const positions = sin + angles;
  const {floats, ints} = call.words;
  floats.set(a.cos, cos / 4);
  floats.set(a.sin, sin / 4);
  ints.set(a.positions, positions / 4);
  return call.run(
    decoderBlock({
      ...sizes,
      ...places,
      ...{epsilon: a.epsilon, scale: a.scale, logitSoftCap: a.logitSoftCap, window: a.window, capacity},
      ...{positions, cos, sin, tableRows: a.cos.length / (headDim / 2), workspace: call.room},
    }),
  );
};

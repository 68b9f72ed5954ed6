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

  const y = backend.empty([batch, 1, hiddenDim]);
  const at = (name: string) => (tensors[name] ? backend.locate(tensors[name]) : 0);
  const dense = (name: DenseName): DenseArgs => {
    const {format, inner} = a.forms[name];
    return {type: format === 'float32' ? FLOAT32 : TYPES[format], w: at(name), inner};
  };
  // Addresses first: bringing a tensor in may need room.
  const places = {
    ...{x: at('x'), cachedKeys: at('keys'), cachedValues: at('values')},
    ...{query: dense('query'), key: dense('key'), value: dense('value'), output: dense('output')},
    ...{gate: dense('gate'), up: dense('up'), down: dense('down')},
    norms: {
      preAttention: at('preAttention'),
      postAttention: at('postAttention'),
      preFfw: at('preFfw'),
      postFfw: at('postFfw'),
      query: at('queryNorm'),
      key: at('keyNorm'),
    },
  };
  const workspaceBytes = Math.ceil(decoderBlockWorkspaceBytes(sizes, backend.engine.threads) / 4) * 4;
  const angles = a.cos.byteLength;
  const workspace = backend.scratch(workspaceBytes + 2 * angles + 4 * batch);
  const cos = workspace + workspaceBytes;
  const sin = cos + angles;
  const positions = sin + angles;
  const {floats, ints} = backend.words;
  floats.set(a.cos, cos / 4);
  floats.set(a.sin, sin / 4);
  ints.set(a.positions, positions / 4);
  const [command, args] = decoderBlock({
    ...sizes,
    ...places,
    ...{y: y.offset, epsilon: a.epsilon, scale: a.scale, logitSoftCap: a.logitSoftCap, window: a.window, capacity},
    ...{positions, cos, sin, tableRows: a.cos.length / (headDim / 2), workspace},
  });
  backend.engine.run(command, args);
  return {dataId: y.dataId, shape: y.shape, dtype: y.dtype};
};

/** `Gemma3DecoderBlock`: one token a row through a whole block, in one command. See `ops/decoder_block.ts`. */
import type * as tf from '@tensorflow/tfjs';
import {type DecoderBlockAttrs, type DenseName} from '../../ops/decoder_block';
import {BFLOAT16, decoderBlock, type DenseArgs, decoderBlockWorkspaceBytes, FLOAT32} from './commands';
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
    const {order, inner} = a.forms[name];
    return {type: order === 'p8' ? BFLOAT16 : FLOAT32, w: at(name), inner};
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
  const workspace = decoderBlockWorkspaceBytes(sizes, backend.engine.threads);
  const angles = a.cos.byteLength;
  const scratch = backend.scratch(workspace + 2 * angles + 4 * batch);
  const cos = scratch.offset + workspace;
  const positions = cos + 2 * angles;
  const view = scratch.view();
  new Float32Array(view.buffer, cos, a.cos.length).set(a.cos);
  new Float32Array(view.buffer, cos + angles, a.sin.length).set(a.sin);
  new Int32Array(view.buffer, positions, batch).set(a.positions);
  const [command, args] = decoderBlock({
    ...sizes,
    ...places,
    ...{y: y.offset, epsilon: a.epsilon, scale: a.scale, logitSoftCap: a.logitSoftCap, window: a.window, capacity},
    ...{positions, cos, sin: cos + angles, tableRows: a.cos.length / (headDim / 2), workspace: scratch.offset},
  });
  backend.engine.run(command, args);
  return {dataId: y.dataId, shape: y.shape, dtype: y.dtype};
};

/** From tfjs kernels to commands of the engine: where tensors are, and what to run over them. */
import * as tf from '@tensorflow/tfjs';
import {type AttentionAttrs} from '../../../ops/attention';
import {type PackedFormat} from '../../../weights/dtype';
import {cpuKernels} from '../../cpu';
import {
  argMax,
  attention,
  attentionPartialBytes,
  FLOAT32,
  gatedGelu,
  gather,
  matMul,
  type MatMulArgs,
  matMulTransposed,
  type NumberType,
  rmsNorm,
  rotary,
  unpack,
} from '../engine/commands';
import {arithmeticKernels} from './arithmetic';
import {attentionCall} from './attention_inputs';
import {decoderBlockKernel} from './fused_block';
import {gradientKernels} from './gradients';
import {headLossKernels} from './head_loss';
import {kernel as makeKernel} from './kernel';
import {TYPES} from '../packing/packing';
import {productKernels} from './mat_mul';
import {samplingKernels} from './sampling';
import {type SimdBackend} from '../memory/simd_backend';

/** Numbers, but for the format of a packed weight. */
type Attrs = Record<string, number> & {format: PackedFormat};

const kernel = makeKernel<Attrs>;

/** x (M, C) · kernel (outer, C, inner) → (M, outer · inner) */
const matMulFloat32 = kernel((backend, {x, kernel}) => {
  const [m, columns] = x!.shape as [number, number];
  const [outer, , inner] = kernel!.shape as [number, number, number];
  const rows = outer * inner;
  const call = backend.call({x: x!, kernel: kernel!}, {shape: [m, rows], home: ['kernel']});
  const size = {m, rows, columns, inner};
  return call.run(matMul({...size, type: FLOAT32, w: call.at('kernel'), x: call.at('x'), y: call.y}));
});

/** x (M, columns) · Wᵀ → (M, rows) */
const matMulPacked = kernel((backend, {x, bits}, attrs) => product(backend, x!, bits!, attrs, false));

/** x (M, rows) · W → (M, columns) */
const matMulTransposedPacked = kernel((backend, {x, bits}, attrs) => product(backend, x!, bits!, attrs, true));

function product(
  backend: SimdBackend,
  x: tf.TensorInfo,
  bits: tf.TensorInfo,
  attrs: Attrs,
  transposed: boolean,
): tf.TensorInfo {
  const [m, rows, columns] = [x.shape[0]!, attrs.rows!, attrs.columns!];
  const call = backend.call({x, bits}, {shape: [m, transposed ? columns : rows], home: ['bits']});
  const places = {w: call.at('bits'), x: call.at('x'), y: call.y};
  const args: MatMulArgs = {type: TYPES[attrs.format], ...places, m, rows, columns};
  return call.run(transposed ? matMulTransposed(args) : matMul(args));
}

const unpackPacked = kernel((backend, {bits}, attrs) => {
  const [rows, columns] = [attrs.rows!, attrs.columns!];
  const call = backend.call({bits: bits!}, {shape: [rows, columns]});
  return call.run(unpack({source: call.at('bits'), type: TYPES[attrs.format], rows, columns, target: call.y}));
});

const gatherPacked = kernel((backend, {bits, ids}, attrs) =>
  rowsOf(backend, bits!, ids!, attrs.columns!, TYPES[attrs.format]),
);

/** Rows of a float32 table (V, D). */
const embedding = kernel((backend, {table, ids}) => rowsOf(backend, table!, ids!, table!.shape[1]!, FLOAT32));

function rowsOf(
  backend: SimdBackend,
  table: tf.TensorInfo,
  ids: tf.TensorInfo,
  columns: number,
  type: NumberType,
): tf.TensorInfo {
  const count = ids.shape[0]!;
  const call = backend.call({table, ids}, {shape: [count, columns], home: ['table']});
  return call.run(gather({table: call.at('table'), type, columns, ids: call.at('ids'), count, target: call.y}));
}

const rmsNormKernel = kernel((backend, {x, scale}, {epsilon}) => {
  const columns = scale!.shape[0]!;
  const rows = tf.util.sizeFromShape(x!.shape) / columns;
  const call = backend.call({x: x!, scale: scale!}, {shape: x!.shape});
  return call.run(rmsNorm({x: call.at('x'), scale: call.at('scale'), y: call.y, rows, columns, epsilon: epsilon!}));
});

const rotaryKernel = (direction: 1 | -1) =>
  kernel((backend, {x, cos, sin}) => {
    const [batch, length, heads, width] = x!.shape as [number, number, number, number];
    const tableRows = cos!.shape[0]!;
    const call = backend.call({x: x!, cos: cos!, sin: sin!}, {shape: x!.shape, home: ['x']});
    const places = {x: call.at('x'), cos: call.at('cos'), sin: call.at('sin'), y: call.y};
    return call.run(rotary({...places, batch, length, heads, width, tableRows, direction}));
  });

const gatedGeluKernel = kernel((backend, {gate, value}) => {
  const call = backend.call({gate: gate!, value: value!}, {shape: gate!.shape});
  const count = tf.util.sizeFromShape(gate!.shape);
  return call.run(gatedGelu({gate: call.at('gate'), value: call.at('value'), y: call.y, count}));
});

const attentionKernel = makeKernel<AttentionAttrs>((backend, inputs, attrs) => {
  const {shape} = inputs.q!;
  const [batch, length, heads, width] = shape as [number, number, number, number];
  const room = length === 1 ? attentionPartialBytes({batch, heads, width}, backend.engine.threads) : 0;
  const {call, args} = attentionCall(backend, inputs, attrs, {shape, room});
  return call.run(attention({...args, y: call.y, partials: room ? call.room : undefined}));
});

/** tfjs' ArgMax: over the last axis of float32 here, anything else as before. */
const argMaxKernel: tf.KernelFunc = call => {
  const {inputs, backend: kernelBackend, attrs} = call;
  const {x} = inputs as unknown as {x: tf.TensorInfo};
  const {axis} = attrs as unknown as {axis: number | number[]};
  const last = [axis].flat();
  if (x.dtype !== 'float32' || last.length !== 1 || ![-1, x.shape.length - 1].includes(last[0]!)) {
    return tf.getKernel('ArgMax', 'cpu')!.kernelFunc(call);
  }
  const columns = x.shape.at(-1)!;
  const shape = x.shape.slice(0, -1);
  const result = (kernelBackend as SimdBackend).call({x}, {shape, dtype: 'int32'});
  const rows = tf.util.sizeFromShape(shape);
  return result.run(argMax({x: result.at('x'), rows, columns, target: result.y}));
};

/** By kernel name. */
export const simdKernels: Readonly<Record<string, tf.KernelFunc>> = {
  ...cpuKernels,
  Gemma3MatMul: matMulFloat32,
  Gemma3MatMulP8: matMulPacked,
  Gemma3MatMulTransposedP8: matMulTransposedPacked,
  Gemma3UnpackP8: unpackPacked,
  Gemma3GatherP8: gatherPacked,
  Gemma3Embedding: embedding,
  Gemma3RmsNorm: rmsNormKernel,
  Gemma3Rotary: rotaryKernel(1),
  Gemma3RotaryGradient: rotaryKernel(-1),
  Gemma3GatedGelu: gatedGeluKernel,
  Gemma3Attention: attentionKernel,
  Gemma3DecoderBlock: decoderBlockKernel,
  ArgMax: argMaxKernel,
  ...samplingKernels,
  ...productKernels,
  ...headLossKernels,
  ...gradientKernels,
  ...arithmeticKernels,
};

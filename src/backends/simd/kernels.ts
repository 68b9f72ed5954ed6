/** From tfjs kernels to commands of the engine: where tensors are, and what to run over them. */
import * as tf from '@tensorflow/tfjs';
import {type AttentionAttrs} from '../../ops/attention';
import {type PackedFormat} from '../../weights/dtype';
import {cpuKernels} from '../cpu';
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
  rmsNorm,
  rotary,
  unpack,
} from './commands';
import {arithmeticKernels} from './arithmetic';
import {locateAttention} from './attention_inputs';
import {decoderBlockKernel} from './decoder_block';
import {gradientKernels} from './gradients';
import {TYPES} from './packing';
import {productKernels} from './products';
import {samplingKernels} from './sampling';
import {type Placed, type SimdBackend} from './simd_backend';

type Tensors = Record<string, tf.TensorInfo>;
/** Numbers, but for the format of a packed weight. */
type Attrs = Record<string, number> & {format: PackedFormat};

/** A kernel from what it computes; the result's place is asked for first, since making room may move views. */
const kernel =
  (run: (backend: SimdBackend, inputs: Tensors, attrs: Attrs) => tf.TensorInfo): tf.KernelFunc =>
  ({inputs, backend, attrs}) => {
    const {dataId, shape, dtype} = run(backend as SimdBackend, inputs as unknown as Tensors, attrs as unknown as Attrs);
    return {dataId, shape, dtype};
  };

/** x (M, C) · kernel (outer, C, inner) → (M, outer · inner) */
const matMulFloat32 = kernel((backend, {x, kernel}) => {
  const [m, columns] = x!.shape as [number, number];
  const [outer, , inner] = kernel!.shape as [number, number, number];
  const y = backend.empty([m, outer * inner]);
  const [at, w] = [backend.locate(x!), backend.locate(kernel!)];
  const size = {m, rows: outer * inner, columns, inner};
  backend.engine.run(...matMul({...size, type: FLOAT32, w, x: at, y: y.offset}));
  return y;
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
): Placed {
  const [m, rows, columns] = [x.shape[0]!, attrs.rows!, attrs.columns!];
  const y = backend.empty([m, transposed ? columns : rows]);
  const [at, w] = [backend.locate(x), backend.locate(bits)];
  const args: MatMulArgs = {type: TYPES[attrs.format], w, x: at, m, y: y.offset, rows, columns};
  backend.engine.run(...(transposed ? matMulTransposed(args) : matMul(args)));
  return y;
}

const unpackPacked = kernel((backend, {bits}, attrs) => {
  const [rows, columns] = [attrs.rows!, attrs.columns!];
  const y = backend.empty([rows, columns]);
  const type = TYPES[attrs.format];
  backend.engine.run(...unpack({source: backend.locate(bits!), type, rows, columns, target: y.offset}));
  return y;
});

const gatherPacked = kernel((backend, {bits, ids}, attrs) => {
  const [count, columns] = [ids!.shape[0]!, attrs.columns!];
  const y = backend.empty([count, columns]);
  const [table, at] = [backend.locate(bits!), backend.locate(ids!)];
  backend.engine.run(...gather({table, type: TYPES[attrs.format], columns, ids: at, count, target: y.offset}));
  return y;
});

/** Rows of a float32 table (V, D). */
const embedding = kernel((backend, {table, ids}) => {
  const [count, columns] = [ids!.shape[0]!, table!.shape[1]!];
  const y = backend.empty([count, columns]);
  const [from, at] = [backend.locate(table!), backend.locate(ids!)];
  backend.engine.run(...gather({table: from, type: FLOAT32, columns, ids: at, count, target: y.offset}));
  return y;
});

const rmsNormKernel = kernel((backend, {x, scale}, {epsilon}) => {
  const columns = scale!.shape[0]!;
  const y = backend.empty(x!.shape);
  const rows = tf.util.sizeFromShape(x!.shape) / columns;
  const [at, scales] = [backend.locate(x!), backend.locate(scale!)];
  backend.engine.run(...rmsNorm({x: at, scale: scales, y: y.offset, rows, columns, epsilon: epsilon!}));
  return y;
});

const rotaryKernel = kernel((backend, {x, cos, sin}) => {
  const [batch, length, heads, width] = x!.shape as [number, number, number, number];
  const y = backend.empty(x!.shape);
  const [at, c, s] = [backend.locate(x!), backend.locate(cos!), backend.locate(sin!)];
  const tableRows = cos!.shape[0]!;
  backend.engine.run(...rotary({x: at, cos: c, sin: s, y: y.offset, batch, length, heads, width, tableRows}));
  return y;
});

const gatedGeluKernel = kernel((backend, {gate, value}) => {
  const y = backend.empty(gate!.shape);
  const [a, b] = [backend.locate(gate!), backend.locate(value!)];
  backend.engine.run(...gatedGelu({gate: a, value: b, y: y.offset, count: tf.util.sizeFromShape(gate!.shape)}));
  return y;
});

const attentionKernel: tf.KernelFunc = ({inputs, backend: kernelBackend, attrs}) => {
  const backend = kernelBackend as SimdBackend;
  const tensors = inputs as unknown as Tensors;
  const y = backend.empty(tensors.q!.shape);
  const {args, release} = locateAttention(backend, tensors, attrs as unknown as AttentionAttrs);
  const partials = args.length === 1 ? backend.borrow(attentionPartialBytes(args, backend.engine.threads)) : undefined;
  backend.engine.run(...attention({...args, y: y.offset, partials: partials?.offset}));
  partials?.release();
  release();
  return {dataId: y.dataId, shape: y.shape, dtype: y.dtype};
};

/** tfjs' ArgMax: over the last axis of float32 here, anything else as before. */
const argMaxKernel: tf.KernelFunc = call => {
  const {inputs, backend: kernelBackend, attrs} = call;
  const {x} = inputs as unknown as {x: tf.TensorInfo};
  const {axis} = attrs as unknown as {axis: number | number[]};
  const last = [axis].flat();
  if (x.dtype !== 'float32' || last.length !== 1 || ![-1, x.shape.length - 1].includes(last[0]!)) {
    return tf.getKernel('ArgMax', 'cpu')!.kernelFunc(call);
  }
  const backend = kernelBackend as SimdBackend;
  const columns = x.shape.at(-1)!;
  const target = backend.empty(x.shape.slice(0, -1), 'int32');
  const rows = tf.util.sizeFromShape(target.shape);
  backend.engine.run(...argMax({x: backend.locate(x), rows, columns, target: target.offset}));
  return {dataId: target.dataId, shape: target.shape, dtype: target.dtype};
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
  Gemma3Rotary: rotaryKernel,
  Gemma3GatedGelu: gatedGeluKernel,
  Gemma3Attention: attentionKernel,
  Gemma3DecoderBlock: decoderBlockKernel,
  ArgMax: argMaxKernel,
  ...samplingKernels,
  ...productKernels,
  ...gradientKernels,
  ...arithmeticKernels,
};

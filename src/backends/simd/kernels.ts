/** From tfjs kernels to commands of the engine: where tensors are, and what to run over them. */
import type * as tf from '@tensorflow/tfjs';
import {BFLOAT16, FLOAT32, gather, matMul, type MatMulArgs, matMulTransposed, unpack} from './commands';
import {type Placed, type SimdBackend} from './simd_backend';

type Tensors = Record<string, tf.TensorInfo>;

/** A kernel from what it computes; the result's place is asked for first, since making room may move views. */
const kernel =
  (run: (backend: SimdBackend, inputs: Tensors, attrs: Record<string, number>) => tf.TensorInfo): tf.KernelFunc =>
  ({inputs, backend, attrs}) => {
    const {dataId, shape, dtype} = run(
      backend as SimdBackend,
      inputs as unknown as Tensors,
      attrs as unknown as Record<string, number>,
    );
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
const matMulPacked = kernel((backend, {x, bits}, {rows, columns}) =>
  product(backend, x!, bits!, rows!, columns!, false),
);

/** x (M, rows) · W → (M, columns) */
const matMulTransposedPacked = kernel((backend, {x, bits}, {rows, columns}) =>
  product(backend, x!, bits!, rows!, columns!, true),
);

function product(
  backend: SimdBackend,
  x: tf.TensorInfo,
  bits: tf.TensorInfo,
  rows: number,
  columns: number,
  transposed: boolean,
): Placed {
  const m = x.shape[0]!;
  const y = backend.empty([m, transposed ? columns : rows]);
  const [at, w] = [backend.locate(x), backend.locate(bits)];
  const args: MatMulArgs = {type: BFLOAT16, w, x: at, m, y: y.offset, rows, columns};
  backend.engine.run(...(transposed ? matMulTransposed(args) : matMul(args)));
  return y;
}

const unpackPacked = kernel((backend, {bits}, {rows, columns}) => {
  const y = backend.empty([rows!, columns!]);
  const source = backend.locate(bits!);
  backend.engine.run(...unpack({source, type: BFLOAT16, rows: rows!, columns: columns!, target: y.offset}));
  return y;
});

const gatherPacked = kernel((backend, {bits, ids}, {columns}) => {
  const count = ids!.shape[0]!;
  const y = backend.empty([count, columns!]);
  const [table, at] = [backend.locate(bits!), backend.locate(ids!)];
  backend.engine.run(...gather({table, type: BFLOAT16, columns: columns!, ids: at, count, target: y.offset}));
  return y;
});

/** By kernel name. */
export const simdKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Gemma3MatMul: matMulFloat32,
  Gemma3MatMulBfloat16P8: matMulPacked,
  Gemma3MatMulTransposedBfloat16P8: matMulTransposedPacked,
  Gemma3UnpackBfloat16P8: unpackPacked,
  Gemma3GatherBfloat16P8: gatherPacked,
};

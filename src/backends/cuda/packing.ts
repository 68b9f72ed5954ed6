/**
 * Packed weights on the device: a matrix of rows. On a GPU, bfloat16 stays bfloat16, in two bytes, and products widen it
 * there. TensorFlow's products on a CPU would widen a whole bfloat16 matrix each time, so it becomes float32 there, which
 * holds it exactly; only a large one stays bfloat16 and is widened a part at a time. int8 becomes integers and scales:
 * see `integers.ts`.
 */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {hostRows} from '../../ops/bfloat16_rows';
import {type Op, runOp} from '../../ops/op';
import {type KernelLayout, type Packing, type PackingTarget} from '../../weights/packing';
import {withHostTensors} from '../cpu/host_packing';
import {type KernelMap} from '../kernel_map';
import {whyNoSimd} from '../simd/engine/available';
import {ROW_GROUP} from '../simd/engine/command';
import {type Packer} from '../simd/packing/packer';
import {BFLOAT16, type Device, FLOAT, INT8, UINT8, wordsOf} from './device';
import {int8Packing, sliceIntegers} from './integers';
import {tensorBuffer, tensorFloats} from './native/host_memory';
import {lookUpPacked, multiplyPacked, multiplyPackedTransposed, unpacked} from './kernels/matrices';

const BITCAST = {T: UINT8, type: BFLOAT16};
const IDENTITY = {T: FLOAT};

type Bits = {bits: tf.Tensor};

/** What runs on no other backend, where these bits cannot be read. */
const elsewhere = (): never => {
  throw new ValueError(
    'Expected the backend "cuda", on which these weights are. Received: the backend ' +
      `"${tf.getBackend()}". Switch back with await useBackend("cuda"), or load the model again on this backend.`,
  );
};

/** bits → (rows, columns) */
const unpackOp: Op<Bits, Record<string, never>> = {name: 'Gemma3UnpackNative', reference: elsewhere};

/** x (M, columns) · Wᵀ → (M, rows) */
const matMulOp: Op<Bits & {x: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3MatMulNative',
  reference: elsewhere,
  gradient: (dy, {bits}) => ({x: () => runOp(matMulTransposedOp, {x: dy, bits}, {})}),
  reads: {x: ['bits']},
};

/** dy (M, rows) · W → (M, columns) */
const matMulTransposedOp: Op<Bits & {x: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3MatMulTransposedNative',
  reference: elsewhere,
};

/** The rows with these ids, (ids, columns) */
const gatherOp: Op<Bits & {ids: tf.Tensor}, Record<string, never>> = {name: 'Gemma3GatherNative', reference: elsewhere};

const halvesOf = (floats: Float32Array) => new Uint32Array(floats.buffer, floats.byteOffset, floats.length);

/** Writes bfloat16 numbers as float32, from element `start` on. */
function widen(halves: Uint16Array, out: Float32Array, start: number): void {
  const words = halvesOf(out);
  for (let i = 0; i < halves.length; i++) words[start + i] = halves[i]! << 16;
}

/** Uploads a matrix of rows. The array belongs to the device afterwards: a CPU shares its memory. */
function upload(device: Device, values: Float32Array | Uint16Array, rows: number, columns: number): tf.Tensor {
  const {binding} = device;
  let id: number;
  if (values instanceof Float32Array) {
    id = binding.createTensor([rows, columns], FLOAT, values);
  } else {
    // The binding takes no 16-bit numbers, but bytes.
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const source = binding.createTensor([rows, columns, 2], UINT8, bytes);
    const attributes = device.attributesOf(BITCAST);
    try {
      id = binding.executeOp('Bitcast', attributes, [source], 1)[0]!.id;
    } finally {
      binding.deleteTensor(source);
    }
  }
  const type = device.restOf(rows, columns);
  const info = device.adoptMatrix(id, {rows, columns, type}, wordsOf(type, rows, columns));
  return tf.engine().makeTensorFromTensorInfo(info);
}

function begin(device: Device, shape: readonly number[], layout: KernelLayout): PackingTarget {
  const rows = sizeOf(layout.out.map(axis => shape[axis]!));
  const columns = sizeOf(layout.in.map(axis => shape[axis]!));
  const inOrder = [...layout.out, ...layout.in].every((axis, i) => axis === i);
  const abandon = () => {};
  const rest = device.restOf(rows, columns);
  if (inOrder) {
    const count = rows * columns;
    const values = rest === FLOAT ? tensorFloats(count) : new Uint16Array(tensorBuffer(2 * count), 0, count);
    const slab = sizeOf(shape.slice(1));
    return {
      multiple: 1,
      place: (halves, first) =>
        values instanceof Float32Array ? widen(halves, values, first * slab) : values.set(halves, first * slab),
      finish: () => upload(device, values, rows, columns),
      abandon,
    };
  }
  const {halves, place} = hostRows(shape, layout, columns);
  return {
    multiple: 1,
    place,
    finish: () => {
      if (rest === BFLOAT16) return upload(device, halves, rows, columns);
      const values = tensorFloats(halves.length);
      widen(halves, values, 0);
      return upload(device, values, rows, columns);
    },
    abandon,
  };
}

/** What reads matrices of either type. */
const products: Pick<Packing, 'unpack' | 'matMul' | 'matMulTransposed' | 'gatherRows'> = {
  unpack: bits => runOp(unpackOp, {bits}, {}) as tf.Tensor2D,
  matMul: (x, bits) => runOp(matMulOp, {x, bits}, {}) as tf.Tensor2D,
  matMulTransposed: (dy, bits) => runOp(matMulTransposedOp, {x: dy, bits}, {}) as tf.Tensor2D,
  gatherRows: (bits, ids) => runOp(gatherOp, {bits, ids}, {}) as tf.Tensor2D,
};

export const nativePacking = (device: Device): Packing =>
  withHostTensors({
    ...products,
    format: 'bfloat16',
    order: device.rest === FLOAT ? 'native float32' : 'native bfloat16',
    rowGroup: 1,
    fusedBlocks: true,
    physicalShape: (rows, columns) => wordsOf(device.restOf(rows, columns), rows, columns),
    begin: (shape, layout) => begin(device, shape, layout),
  });

export const integersPacking = (device: Device, packer: Packer): Packing => int8Packing(device, packer, products);

/** A format that this backend has no products for. */
export function refusingPacking(format: 'int8' | 'int4', known: Packing): Packing {
  const refuse = (): never => {
    throw new ValueError(
      `The backend "cuda" cannot pack weights as ${format}` +
        (format === 'int8'
          ? `. ${whyNoSimd()} Use dtype "bfloat16" or "float32" on it.`
          : '. Use dtype "int8", "bfloat16" or "float32" on it, or the backend "simd": await useBackend("simd") before ' +
            'the model is created.'),
    );
  };
  return {...known, refused: true, begin: refuse, beginBits: refuse, beginIntegers: refuse, packTensor: refuse};
}

/** Kernels that read packed matrices. */
export const packingKernels = (device: Device, stockSlice: tf.KernelFunc): KernelMap => {
  const matrixOf = (tensor: tf.TensorInfo) => device.matrices.get(tensor.dataId) ?? elsewhere();
  type Inputs = Record<'x' | 'bits' | 'ids', tf.TensorInfo>;
  const kernel =
    (run: (inputs: Inputs) => tf.TensorInfo): tf.KernelFunc =>
    ({inputs}) =>
      run(inputs as object as Inputs);
  return {
    Gemma3UnpackNative: kernel(({bits}) => {
      const {rows, columns, type} = matrixOf(bits);
      return device.program(p => {
        const id = unpacked(p, bits);
        return p.take(type === FLOAT ? p.run('Identity', IDENTITY, id) : id, [rows, columns]);
      });
    }),
    Gemma3MatMulNative: kernel(({x, bits}) => {
      const {rows} = matrixOf(bits);
      const count = x.shape[0]!;
      return device.program(p => p.take(multiplyPacked(p, p.of(x), bits, count), [count, rows]));
    }),
    Gemma3MatMulTransposedNative: kernel(({x, bits}) => {
      const {columns} = matrixOf(bits);
      const length = x.shape[0]!;
      return device.program(p => p.take(multiplyPackedTransposed(p, p.of(x), length, bits), [length, columns]));
    }),
    Gemma3GatherNative: kernel(({bits, ids}) => {
      const {columns} = matrixOf(bits);
      const length = ids.shape[0]!;
      return device.program(p => p.take(lookUpPacked(p, bits, p.of(ids), length), [length, columns]));
    }),
    // Saving and repacking read packed matrices a few rows at a time.
    Slice: params => {
      const x = params.inputs.x as tf.TensorInfo;
      const matrix = device.matrices.get(x.dataId);
      if (!matrix) return stockSlice(params);
      const {begin, size} = params.attrs as unknown as {begin: number | number[]; size: number | number[]};
      const parsed = tf.slice_util.parseSliceParams(x as tf.Tensor, begin, size) as [number[], number[]];
      const [[first, from], [rows, width]] = parsed as [[number, number], [number, number]];
      if (from !== 0 || width !== x.shape[1]) elsewhere();
      const {columns, type} = matrix;
      return device.program(p => {
        if (type === INT8) {
          const start = first * ROW_GROUP;
          return sliceIntegers(p, x, start, Math.min(rows * ROW_GROUP, matrix.rows - start));
        }
        const part = p.release(p.slice(p.of(x), [first, 0], [rows, columns], type));
        return device.adoptMatrix(part, {rows, columns, type}, wordsOf(type, rows, columns));
      });
    },
  };
};

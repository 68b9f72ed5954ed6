/**
 * int8 matrices: on the device integers (rows, blocks, 32) with a scale for each block; on the host, where they are
 * packed and read, in the order of the backend "simd".
 */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../base/shapes';
import {bfloat16Bits, packValues} from '../../weights/pack_values';
import {type Packing} from '../../weights/packing';
import {COLUMN_BLOCK, INT8 as INT8_FORMAT, packedBytes, ROW_GROUP} from '../simd/engine/command';
import {type DeviceMatrix, packOnTheWay} from '../simd/packing/pack_pieces';
import {type Packer} from '../simd/packing/packer';
import {commonPacking} from '../simd/packing/packing';
import {integerPacking} from '../simd/packing/place_integers';
import {BFLOAT16, type Device, INT32, INT8, type Matrix, type Program, type ShortAttributes, UINT8} from './device';
import {matrixOf} from './kernels/matrices';

/** Bytes of a block of eight rows. */
const BLOCK_BYTES = packedBytes(INT8_FORMAT, ROW_GROUP, COLUMN_BLOCK);
const SCALES = 2 * ROW_GROUP;
const TO_BFLOAT16: ShortAttributes = {T: UINT8, type: BFLOAT16};
const TO_INT8: ShortAttributes = {T: UINT8, type: INT8};
const TO_INT32: ShortAttributes = {T: INT8, type: INT32};
const XOR: ShortAttributes = {T: UINT8};
/** Bytes of even columns hold the number + 128. */
const SIGNS = Uint8Array.from({length: COLUMN_BLOCK}, (_, column) => (column % 2 === 0 ? 128 : 0));

/** The shape of the tensor that stands for a matrix. */
const shapeOf = commonPacking('int8').physicalShape;

/** Uploads packed bytes, groups of eight rows. */
export function uploadIntegers(device: Device, bytes: Uint8Array, rows: number, columns: number): tf.Tensor {
  const groups = Math.ceil(rows / ROW_GROUP);
  const blocks = Math.ceil(columns / COLUMN_BLOCK);
  const {binding} = device;
  return device.program(p => {
    const source = p.own(binding.createTensor([groups, blocks, BLOCK_BYTES], UINT8, bytes));
    const signs = p.own(binding.createTensor([COLUMN_BLOCK], UINT8, SIGNS));
    const part = (from: number, size: number) => p.slice(source, [0, 0, from], [groups, blocks, size], UINT8);
    const halves = p.reshape(part(0, SCALES), [groups, blocks, ROW_GROUP, 2], UINT8);
    const scales = p.transpose(p.widen(p.run('Bitcast', TO_BFLOAT16, halves), BFLOAT16), [0, 2, 1]);
    const turns = p.reshape(part(SCALES, BLOCK_BYTES - SCALES), [groups, blocks, 8, ROW_GROUP, 4], UINT8);
    const inRows = p.transpose(turns, [0, 3, 1, 2, 4], UINT8);
    const all = [groups * ROW_GROUP, blocks];
    const signed = p.run('BitwiseXor', XOR, p.reshape(inRows, [...all, COLUMN_BLOCK], UINT8), signs);
    const integers = p.run('Bitcast', TO_INT8, signed);
    // Without the rows that fill the last group.
    const values = p.release(p.slice(integers, [0, 0, 0], [rows, blocks, COLUMN_BLOCK], INT8));
    const factors = p.release(p.slice(p.reshape(scales, [...all, 1]), [0, 0, 0], [rows, blocks, 1]));
    return tf
      .engine()
      .makeTensorFromTensorInfo(
        device.adoptMatrix(values, {rows, columns, type: INT8, scales: factors}, shapeOf(rows, columns)),
      );
  });
}

/** A packed matrix that is collected on the host. */
function hostMatrix(device: Device, rows: number, columns: number): DeviceMatrix & {bytes: Uint8Array} {
  let bytes = new Uint8Array(4 * sizeOf(shapeOf(rows, columns)));
  return {
    bytes,
    checkUsable: () => {},
    place: (part, start) => bytes.set(part, start),
    finish: () => uploadIntegers(device, bytes, rows, columns),
    abandon: () => void (bytes = new Uint8Array(0)),
  };
}

/** The packed bytes of a matrix, as 32-bit words. */
export function readIntegers(device: Device, tensor: tf.TensorInfo): Int32Array {
  const {rows, columns, scales} = matrixOf(device, tensor);
  const {binding} = device;
  const blocks = Math.ceil(columns / COLUMN_BLOCK);
  const integers = device.program(p => {
    const words = p.reshape(p.of(tensor), [rows, blocks, COLUMN_BLOCK / 4, 4], INT8);
    return binding.tensorDataSync(p.run('Bitcast', TO_INT32, words));
  });
  const factors = binding.tensorDataSync(scales!) as Float32Array;
  const words = new Int32Array(sizeOf(shapeOf(rows, columns)));
  const bytes = new Uint8Array(words.buffer);
  const matrix = {bytes: (start: number, count: number) => bytes.subarray(start, start + count)};
  const target = integerPacking('int8', () => ({...matrix, finish: () => tf.scalar(0), abandon: () => {}}));
  // With the rows that fill the last group.
  const all = Math.ceil(rows / ROW_GROUP) * ROW_GROUP;
  const values = new Int8Array(all * blocks * COLUMN_BLOCK);
  values.set(new Int8Array(integers.buffer, integers.byteOffset, integers.byteLength));
  const allFactors = new Float32Array(all * blocks);
  allFactors.set(factors);
  target.beginIntegers!(all, blocks * COLUMN_BLOCK).place({integers: values, scales: allFactors}, 0, all);
  return words;
}

/** Rows of an int8 matrix, as a matrix of its own. They share its memory. */
export function sliceIntegers(p: Program, tensor: tf.TensorInfo, first: number, rows: number): tf.TensorInfo {
  const {columns, scales}: Matrix = matrixOf(p.device, tensor);
  const blocks = Math.ceil(columns / COLUMN_BLOCK);
  const values = p.release(p.slice(p.of(tensor), [first, 0, 0], [rows, blocks, COLUMN_BLOCK], INT8));
  const factors = p.release(p.slice(scales!, [first, 0, 0], [rows, blocks, 1]));
  return p.device.adoptMatrix(values, {rows, columns, type: INT8, scales: factors}, shapeOf(rows, columns));
}

/** What reads matrices. */
type Products = Pick<Packing, 'unpack' | 'matMul' | 'matMulTransposed' | 'gatherRows'>;

/** How int8 weights are packed: in WebAssembly, as on the other backends. */
export function int8Packing(device: Device, packer: Packer, products: Products): Packing {
  const begin: Packing['begin'] = (shape, layout) =>
    packOnTheWay(packer, shape, layout, 'int8', (rows, columns) => hostMatrix(device, rows, columns));
  return {
    ...commonPacking('int8'),
    ...products,
    ...integerPacking('int8', (rows, columns) => {
      const {bytes, finish, abandon} = hostMatrix(device, rows, columns);
      return {bytes: (start, count) => bytes.subarray(start, start + count), finish, abandon};
    }),
    begin,
    fromWords(words, rows, columns) {
      if (device.matrices.has(words.dataId)) return undefined;
      const {buffer, byteOffset, byteLength} = words.dataSync();
      return uploadIntegers(device, new Uint8Array(buffer, byteOffset, byteLength), rows, columns);
    },
    beginBits: (rows, columns) => hostMatrix(device, rows, columns),
    packTensor: (values, shape, layout) =>
      packValues(
        begin(shape, layout),
        bfloat16Bits(values.dataSync() as Float32Array | Int32Array, sizeOf(shape)),
        shape,
      ),
  };
}

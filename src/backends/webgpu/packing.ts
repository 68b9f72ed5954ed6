/** Packed weights on the GPU, in the order of the backend "simd": the same files, and the same bits. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {type PackedFormat} from '../../weights/dtype';
import {bfloat16Bits, packValues} from '../../weights/pack_values';
import {type Packing} from '../../weights/packing';
import {packOnTheWay} from '../simd/packing/pack_pieces';
import {type Packer} from '../simd/packing/packer';
import {commonPacking} from '../simd/packing/packing';
import {integerPacking, type Matrix} from '../simd/packing/place_integers';
import {checkWeightFits} from './memory';
import {type WebGpuBackend} from './webgpu_backend';

const current = () => tf.backend() as unknown as WebGpuBackend;

/** A matrix without values on the GPU. */
function emptyMatrix(shape: [number, number]) {
  const backend = current();
  const target = backend.empty(shape, 'int32');
  return {
    checkUsable: () => backend.checkUsable(),
    place: (bytes: Uint8Array, start: number) => backend.writeBytes(target, bytes, start),
    finish: () => tf.engine().makeTensorFromTensorInfo(target),
    abandon: () => void backend.disposeData(target.dataId),
  };
}

/** Integers are placed in host memory, a piece at a time. */
function integerMatrix(shape: [number, number]): Matrix {
  const {place, finish, abandon} = emptyMatrix(shape);
  let piece = new Uint8Array(0);
  return {
    bytes: (_, count) => {
      if (piece.length < count) piece = new Uint8Array(count);
      return piece.subarray(0, count);
    },
    filled: place,
    finish,
    abandon,
  };
}

/** A format on the GPU. */
export function webGpuPacking(format: PackedFormat, packer: Packer): Packing {
  const common = commonPacking(format);
  const begin: Packing['begin'] = (shape, layout, energies) => {
    checkWeightFits(current().device, shape, format);
    const empty = (rows: number, columns: number) => emptyMatrix(common.physicalShape(rows, columns));
    return packOnTheWay(packer, shape, layout, format, empty, energies);
  };
  return {
    ...common,
    ...(format === 'bfloat16'
      ? {}
      : integerPacking(format, (rows, columns) => {
          checkWeightFits(current().device, [rows, columns], format);
          return integerMatrix(common.physicalShape(rows, columns));
        })),
    begin,
    beginBits: (rows, columns) => {
      checkWeightFits(current().device, [rows, columns], format);
      return emptyMatrix(common.physicalShape(rows, columns));
    },
    packTensor: (tensor, shape, layout, energies) => {
      const {values} = current().tensorMap.get(tensor.dataId);
      if (!values) {
        throw new ValueError(
          `Expected values that are on the host, to pack them as ${format}. Received: a tensor that is only on the ` +
            'GPU. Read it with `await tensor.data()` first, or call `await weight.fillFromTensor(tensor)`.',
        );
      }
      const bits = bfloat16Bits(values as Float32Array, sizeOf(shape));
      return packValues(begin(shape, layout, energies), bits, shape);
    },
  };
}

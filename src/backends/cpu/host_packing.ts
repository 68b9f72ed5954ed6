/** Synchronous packing on backends whose tensors the host can read synchronously. */
import {sizeOf} from '../../base/shapes';
import {bfloat16Rows} from '../../ops/bfloat16_rows';
import {bfloat16Bits, packValues} from '../../weights/pack_values';
import {type Packing, registerPacking} from '../../weights/packing';

/** Adds `packTensor` to a packing: the tensor is read on the host and packed from there. */
export const withHostTensors = (packing: Packing): Packing => ({
  ...packing,
  packTensor: (values, shape, layout, energies) => {
    const target = packing.begin(shape, layout, energies);
    return packValues(target, bfloat16Bits(values.dataSync() as Float32Array | Int32Array, sizeOf(shape)), shape);
  },
});

/** The default packing of bfloat16, for CPU backends. */
export const cpuBfloat16 = withHostTensors(bfloat16Rows);
registerPacking('cpu', cpuBfloat16);

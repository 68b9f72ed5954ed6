/** Fills float32 weights in the memory of the backend. */
import * as tf from '@tensorflow/tfjs';
import {type Float32Target} from '../../../weights/float32_target';
import {type SimdBackend} from '../memory/simd_backend';
import {widen} from './pack_command';

export function float32Target(backend: SimdBackend, shape: number[]): Float32Target {
  const placed = backend.empty(shape);
  const {shared} = backend.engine;
  const finish = () => tf.engine().makeTensorFromTensorInfo(placed);
  const abandon = () => void backend.disposeData(placed.dataId);

  return {
    values: () => backend.data.get(placed.dataId).values as Float32Array,
    // Growing an unshared memory moves it.
    moves: !shared,
    finish,
    abandon,
    fromHalves: () => {
      const staging = backend.staging(placed.bank).open();
      const closing = <Result>(end: () => Result) => {
        return () => {
          staging.close();
          return end();
        };
      };
      return {
        multiple: 1,
        ...(shared && {space: count => staging.space(count)}),
        place: (values, first, count) => {
          const {bank, offset} = backend.placeOf(placed)!;
          const [command, args] = widen({source: staging.offsetOf(values), target: offset + 4 * first, count});
          backend.engine.run(command, args, bank);
        },
        finish: closing(finish),
        abandon: closing(abandon),
      };
    },
  };
}

/** Fills float32 weights in the memory of the backend. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type Float32Target} from '../../../weights/float32_target';
import {packStream} from '../../../weights/pack_values';
import {type PackingTarget} from '../../../weights/packing';
import {PIECE} from '../../../weights/value_stream';
import {type SimdBackend} from '../memory/simd_backend';
import {widen} from './pack_command';

export function float32Target(backend: SimdBackend, shape: number[]): Float32Target {
  const size = sizeOf(shape);
  const placed = backend.empty(shape);
  const staging = backend.staging(placed.bank);
  const finish = () => tf.engine().makeTensorFromTensorInfo(placed);
  const abandon = () => void backend.disposeData(placed.dataId);

  /** Closes the memory for values before it ends. */
  const closing =
    <Result>(end: () => Result) =>
    () => {
      staging.close();
      return end();
    };
  /** Its slabs are single values. */
  const fromHalves = (): PackingTarget => {
    staging.open();
    return {
      multiple: 1,
      space: count => staging.space(count),
      place: (values, first, count) => {
        const {bank, offset} = backend.placeOf(placed)!;
        const [command, args] = widen({source: staging.offsetOf(values), target: offset + 4 * first, count});
        backend.engine.run(command, args, bank);
      },
      finish: closing(finish),
      abandon: closing(abandon),
    };
  };
  return {
    values: () => backend.data.get(placed.dataId).values as Float32Array,
    // Growing an unshared memory moves it.
    moves: !backend.engine.shared,
    ...(staging.hasRoom(Math.min(size, PIECE)) && {
      fillFromHalves: (stream, onLastRead) => packStream(fromHalves(), stream, [size], PIECE, onLastRead),
    }),
    finish,
    abandon,
  };
}

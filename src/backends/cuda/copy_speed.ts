/** How fast the device moves bytes: what a plain copy reaches is the most that products of single tokens can. */
import {type Device, FLOAT, INT32, type ShortAttributes} from './device';

/** Numbers to copy: more than caches hold. */
const NUMBERS = 2 ** 25;
const COPIES = 8;
const ROUNDS = 3;
const COPY: ShortAttributes = {T: FLOAT};
const FILL: ShortAttributes = {T: FLOAT, index_type: INT32};

/** Bytes per second, read and written together: the best of some rounds. */
export function copySpeed(device: Device): number {
  return device.program(p => {
    const source = p.run('Fill', FILL, device.ints([NUMBERS]), device.float(1));
    const seconds = () => {
      const start = performance.now();
      let last = source;
      for (let i = 0; i < COPIES; i++) {
        const copy = p.run('DeepCopy', COPY, last);
        if (last !== source) p.delete(last);
        last = copy;
      }
      // Reading a number waits for a GPU.
      device.binding.tensorDataSync(p.slice(last, [0], [1]));
      p.delete(last);
      return (performance.now() - start) / 1000;
    };
    // Memory is ready after the first round.
    seconds();
    return (8 * NUMBERS * COPIES) / Math.min(...Array.from({length: ROUNDS}, seconds));
  });
}

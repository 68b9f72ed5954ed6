/** Declares the matcher that matchers.ts adds to Jest. */
import {type Numbers, type Tolerance} from './matchers';

declare global {
  namespace jest {
    interface Matchers<R> {
      /**
       * Compares tensors, typed arrays and nested arrays. If both sides have a shape, the shapes must be equal; a flat
       * array has only a length. NaN is not close to any value.
       *
       * @param tolerance An error may be as large as `atol`, or as `rtol` times the largest expected value. A single
       * number sets both; in an object, a missing tolerance is 0. Defaults to 1e-5.
       */
      toBeAllClose(expected: Numbers, tolerance?: Tolerance): R;
    }
  }
}

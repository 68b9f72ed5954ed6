import {type Numbers, type Tolerance} from './matchers';

declare global {
  namespace jest {
    interface Matchers<R> {
      /**
       * Compares tensors, typed arrays and nested arrays. Shapes must be equal where both sides have one; a flat array
       * has only a length. NaN is close to nothing.
       * @param tolerance An error may be as large as `atol` (absolute), or as `rtol` times the largest expected value.
       * One number stands for both, and a tolerance left out of the object is 0. 1e-5 by default.
       */
      toBeAllClose(expected: Numbers, tolerance?: Tolerance): R;
    }
  }
}

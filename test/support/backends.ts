/** The backends that must all compute the same results, and helpers that run tests on each of them. */
import * as tf from '@tensorflow/tfjs';
import {type BackendName, useBackend} from '../../src';
import {type PackedFormat} from '../../src/weights/dtype';
import {describeCuda, useCuda} from './cuda';
import {describeWebGpu, throwGpuErrors, useWebGpu} from './webgpu';

export interface TestedBackend {
  readonly name: Exclude<BackendName, 'auto'>;
  /** Formats it can pack weights into. */
  readonly formats: readonly PackedFormat[];
  /** Options for tiny inputs, where threads cost more time than they save. */
  readonly smallOptions?: object;
  /** Whether numbers below 2⁻¹²⁶ count as 0, as in TensorFlow's threads. */
  readonly flushesToZero?: boolean;
  /** Whether it runs the real Gemma 3 270M fast enough for long texts. */
  readonly fast: boolean;
}

/** To test a new backend of the CPU, add it here: every suite in {@link onEachBackend} then runs on it. */
export const BACKENDS: readonly TestedBackend[] = [
  {name: 'cpu', formats: ['bfloat16'], fast: false},
  {name: 'simd', formats: ['bfloat16', 'int8', 'int4'], smallOptions: {threads: 1}, fast: true},
];

/** Backends whose tensors can only be read asynchronously: suites that do so run on these too. */
export const DEVICES: readonly TestedBackend[] = [{name: 'webgpu', formats: ['bfloat16', 'int8', 'int4'], fast: false}];

/** Of these, the one that needs a TensorFlow: suites in {@link onEachBackend} run on it where there is one. */
export const NATIVE: readonly TestedBackend[] = [
  {name: 'cuda', formats: ['bfloat16', 'int8'], flushesToZero: true, fast: true},
];

/**
 * Defines the same tests once per backend. They must dispose of every tensor that they create. Afterwards, the previous
 * backend is in use again.
 *
 * @param options.small whether inputs are so small that threads only cost time.
 */
export function onEachBackend(defineTests: (backend: TestedBackend) => void, {small = false} = {}): void {
  describe.each(BACKENDS)('on $name', backend => {
    let previous: string;
    let tensors: number;
    beforeAll(async () => {
      previous = tf.getBackend();
      await useBackend(backend.name, small ? backend.smallOptions : {});
      tensors = tf.memory().numTensors;
    });

    defineTests(backend);

    // Hooks run in order, so tensors that the tests dispose of in their own hooks are gone by now.
    afterAll(async () => {
      const left = tf.memory().numTensors - tensors;
      await tf.setBackend(previous);
      expect({left}).toEqual({left: 0});
    });
  });
  for (const backend of NATIVE) {
    describeCuda('on cuda', () => {
      let tensors: number;
      beforeAll(async () => {
        await useCuda();
        tensors = tf.memory().numTensors;
      });

      defineTests(backend);

      afterAll(() => {
        expect({left: tf.memory().numTensors - tensors}).toEqual({left: 0});
      });
    });
  }
}

/** The same for tests that read all tensors asynchronously: they run on {@link DEVICES} too, if there is one. */
export function onEveryBackend(defineTests: (backend: TestedBackend) => void): void {
  onEachBackend(defineTests);
  for (const backend of DEVICES) {
    describeWebGpu('on webgpu', () => {
      let tensors: number;
      beforeAll(async () => {
        await useWebGpu();
        tensors = tf.memory().numTensors;
      });

      defineTests(backend);

      afterEach(throwGpuErrors);
      afterAll(() => {
        expect({left: tf.memory().numTensors - tensors}).toEqual({left: 0});
      });
    });
  }
}

/** Disposes of all tensors that a test creates, for tests that would be hard to read with `tidy`. */
export function disposeAfterEach(): void {
  beforeEach(() => tf.engine().startScope());
  afterEach(() => tf.engine().endScope());
}

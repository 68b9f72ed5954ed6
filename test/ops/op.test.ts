/** How operations run: reference, gradient, kernel, optional inputs. */
import * as tf from '@tensorflow/tfjs';
import {rmsNorm} from '../../src/ops/rms_norm';
import {type Op, registerFault, runOp, tapeIsOn} from '../../src/ops/op';
import {normal} from '../support/random';

type Sum = {a: tf.Tensor; b: tf.Tensor; extra: tf.Tensor};
const called: string[] = [];

/** `a · factor + b (+ extra)`. Records which gradients are computed. */
const sumOp: Op<Pick<Sum, 'a' | 'b'> & Partial<Sum> & Record<string, tf.Tensor>, {factor: number}> = {
  name: 'Gemma3TestSum',
  reference: ({a, b, extra}, {factor}) =>
    tf.tidy(() => (extra ? tf.add(tf.add(tf.mul(a, factor), b), extra) : tf.add(tf.mul(a, factor), b))),
  gradient: (dy, inputs, {factor}) => ({
    a: () => {
      called.push('a');
      return tf.mul(dy, factor);
    },
    b: () => {
      called.push('b');
      return dy.clone();
    },
    extra: () => {
      called.push(Object.keys(inputs).join());
      return dy.clone();
    },
  }),
};

beforeEach(() => called.splice(0));

describe('runOp', () => {
  const [a, b, extra] = [1, 2, 3].map(seed => normal([2, 2], seed)) as [tf.Tensor, tf.Tensor, tf.Tensor];

  test('runs the reference, with the gradients it declares', () => {
    const y = runOp(sumOp, {a, b}, {factor: 3});
    expect(y).toBeAllClose(tf.add(tf.mul(a, 3), b), 1e-6);
    expect(tapeIsOn()).toBe(false);
    const f = (x: tf.Tensor) => {
      expect(tapeIsOn()).toBe(true);
      return runOp(sumOp, {a: x, b}, {factor: 3});
    };
    expect(tf.grad(f)(a)).toBeAllClose(tf.fill([2, 2], 3), 1e-6);
    // The other gradients were not requested.
    expect(called).toEqual(['a']);
  });

  test('finds optional inputs by their names', () => {
    tf.grad(x => runOp(sumOp, {a, b, extra: x}, {factor: 3}))(extra);
    expect(called).toEqual(['a,b,extra']);
    called.splice(0);
    tf.grad(x => runOp(sumOp, {extra: x, b, a}, {factor: 3}))(extra);
    expect(called).toEqual(['extra,b,a']);
  });

  test('runs the kernel of the backend in place of the reference, with the same gradient', () => {
    const seen: unknown[] = [];
    const kernelFunc: tf.KernelFunc = ({inputs, attrs}) => {
      seen.push([Object.keys(inputs), (attrs as {factor?: number}).factor]);
      return tf.zeros([2, 2]);
    };
    tf.unregisterKernel(sumOp.name, 'cpu');
    tf.registerKernel({kernelName: sumOp.name, backendName: 'cpu', kernelFunc});
    try {
      expect(runOp(sumOp, {a, b}, {factor: 2})).toBeAllClose(tf.zeros([2, 2]));
      expect(seen).toEqual([[['a', 'b'], 2]]);
      expect(tf.grad(x => runOp(sumOp, {a: x, b}, {factor: 2}))(a)).toBeAllClose(tf.fill([2, 2], 2), 1e-6);
    } finally {
      tf.unregisterKernel(sumOp.name, 'cpu');
    }
    expect(runOp(sumOp, {a, b}, {factor: 1})).toBeAllClose(tf.add(a, b), 1e-6);
  });

  test('leaks no tensors', () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      runOp(sumOp, {a, b, extra}, {factor: 1});
      tf.grads((x, y) => runOp(sumOp, {a: x, b: y}, {factor: 3}))([a, b]);
    });
    expect(tf.memory().numTensors).toBe(before);
  });
});

test('references are refused on a backend with a fault', async () => {
  const previous = tf.getBackend();
  const cpu = tf.backend();
  tf.registerBackend('faulty', () => cpu as tf.KernelBackend);
  registerFault('faulty', () => 'Expected another backend. Received: a faulty one.');
  await tf.setBackend('faulty');
  expect(() => tf.tidy(() => rmsNorm(tf.ones([1, 2]), tf.zeros([2]), 1e-6))).toThrow('Received: a faulty one');
  await tf.setBackend(previous);
});

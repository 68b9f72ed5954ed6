/**
 * tfjs' `Slice` and `Concat` of tensors that commands have computed. tfjs' CPU kernels would copy them out of
 * WebAssembly memory, and the next command would copy them back.
 */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type KernelMap} from '../../kernel_map';
import {type SimdBackend} from '../memory/simd_backend';
import {copyRows, isWorthwhile} from './arithmetic';
import {kernelWithFallback} from './kernel';

interface SliceAttrs {
  begin: number | number[];
  size: number | number[];
}

const {assertParamsValid, parseSliceParams} = tf.slice_util;

/** Whether one of our commands has written or read this tensor of numbers. */
const isHere = (backend: SimdBackend, x: tf.TensorInfo) => x.dtype === 'float32' && backend.placeOf(x) !== undefined;

/** Runs here for a part of one axis. */
const sliceKernel = kernelWithFallback<'x', SliceAttrs>('Slice', (backend, {x}, attrs) => {
  if (!isHere(backend, x)) return undefined;
  const [begin, size] = parseSliceParams(x as tf.Tensor, attrs.begin, attrs.size) as [number[], number[]];
  assertParamsValid(x as tf.Tensor, begin, size);
  const cut = x.shape.flatMap((length, axis) => (size[axis] === length ? [] : [axis]));
  if (cut.length !== 1 || !isWorthwhile(size)) return undefined;
  const [axis] = cut as [number];
  const columns = sizeOf(x.shape.slice(axis + 1));
  const call = backend.call({x}, {shape: size});
  const from = call.at('x') + 4 * begin[axis]! * columns;
  const parts = sizeOf(size.slice(0, axis));
  const step = x.shape[axis]! * columns;
  return call.run(copyRows({from, to: call.y, parts, step, rows: size[axis]!, columns}));
});

/** More parts than this are left to tfjs: each takes a command. */
const MOST_PARTS = 32;

/** Runs here if every part is large enough. */
const concatKernel: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const given = Object.values(params.inputs) as tf.TensorInfo[];
  const axis = tf.util.parseAxisParam((params.attrs as unknown as {axis: number}).axis, given[0]!.shape)[0]!;
  const outer = sizeOf(given[0]!.shape.slice(0, axis));
  const fits = given.every(x => isHere(backend, x) && isWorthwhile(x.shape)) && given.length * outer <= MOST_PARTS;
  if (!fits) return tf.getKernel('Concat', 'cpu')!.kernelFunc(params);
  const shapes = given.map(({shape}) => shape);
  tf.backend_util.assertParamsConsistent(shapes, axis);
  const shape = tf.backend_util.computeOutShape(shapes, axis);
  const columns = sizeOf(shape.slice(axis + 1));
  const call = backend.call(Object.fromEntries(given.entries()), {shape});
  return call.runEach(commands());

  function* commands() {
    let to = call.y;
    for (let part = 0; part < outer; part++) {
      for (const [i, x] of given.entries()) {
        const rows = x.shape[axis]!;
        const from = call.at(String(i)) + 4 * part * rows * columns;
        yield copyRows({from, to, parts: 1, step: 0, rows, columns});
        to += 4 * rows * columns;
      }
    }
  }
};

export const copyKernels: KernelMap = {Slice: sliceKernel, Concat: concatKernel};

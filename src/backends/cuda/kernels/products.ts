/** Products with float32 kernels in Keras' order, (outer, columns, inner). See `ops/mat_mul.ts`. */
import {type KernelMap} from '../../kernel_map';
import {type Device, type Program} from '../device';
import {kernelOf} from './kernel';

type Shape3 = [outer: number, columns: number, inner: number];

/** x (M, columns) · kernel → (M, outer · inner) */
export function multiply(
  p: Program,
  x: number,
  count: number,
  kernel: number,
  [outer, columns, inner]: Shape3,
): number {
  if (outer === 1) return p.matMul(x, p.reshape(kernel, [columns, inner]));
  if (inner === 1) return p.timesTransposed(x, p.reshape(kernel, [outer, columns]), count);
  const parts = p.batchMatMul(x, kernel); // (outer, M, inner)
  const inRows = count === 1 ? parts : p.transpose(parts, [1, 0, 2]);
  return p.reshape(inRows, [count, outer * inner]);
}

/** dy (M, outer · inner) → (M, columns), the gradient for x. */
function multiplyTransposed(p: Program, dy: number, count: number, kernel: number, [outer, columns, inner]: Shape3) {
  if (outer === 1) return p.timesTransposed(dy, p.reshape(kernel, [columns, inner]), count);
  if (inner === 1) return p.matMul(dy, p.reshape(kernel, [outer, columns]));
  const parts = p.transpose(p.reshape(dy, [count, outer, inner]), [1, 0, 2]);
  return p.sum(p.batchMatMul(parts, kernel, false, true), 0, false);
}

export const productKernels = (device: Device): KernelMap => ({
  Gemma3MatMul: kernelOf<'x' | 'kernel'>(device, (p, {x, kernel}) => {
    const shape = kernel.shape as Shape3;
    const count = x.shape[0]!;
    return p.take(multiply(p, p.of(x), count, p.of(kernel), shape), [count, shape[0] * shape[2]]);
  }),
  Gemma3MatMulGradientX: kernelOf<'dy' | 'kernel'>(device, (p, {dy, kernel}) => {
    const shape = kernel.shape as Shape3;
    const count = dy.shape[0]!;
    return p.take(multiplyTransposed(p, p.of(dy), count, p.of(kernel), shape), [count, shape[1]]);
  }),
  Gemma3MatMulGradientKernel: kernelOf<'x' | 'dy', {outer: number; inner: number}>(
    device,
    (p, {x, dy}, {outer, inner}) => {
      const columns = x.shape[1]!;
      const product = p.matMul(p.of(x), p.of(dy), true); // (columns, outer · inner)
      const shape = [outer, columns, inner];
      if (outer === 1) return p.take(p.reshape(product, shape), shape);
      return p.take(p.transpose(p.reshape(product, [columns, outer, inner]), [1, 0, 2]), shape);
    },
  ),
});

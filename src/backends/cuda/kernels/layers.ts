/** Norms, rotary positions and gates, in few operations. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, type Program, type ShortAttributes} from '../device';
import {kernelOf} from './kernel';

const T: ShortAttributes = {T: FLOAT};

/** tanh(u) = 2 sigmoid(2u) − 1, so GELU is x · sigmoid(x (LINEAR + CUBIC x²)). */
const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = LINEAR * 0.044715;

/** 1 / √(mean(x²) + epsilon) over the last axis, which stays with size 1. */
export const inverseRms = (p: Program, x: number, epsilon: number): number =>
  p.rsqrt(p.plus(p.mean(p.square(x), -1), epsilon));

/** sigmoid(x (LINEAR + CUBIC x²)), which for a gate x is the share of it that passes. */
const share = (p: Program, x: number): number => p.sigmoid(p.mul(x, p.plus(p.scale(p.square(x), CUBIC), LINEAR)));

/**
 * gelu(gate) · value of few rows, in fewer operations: `SoftplusGrad` is a product with a sigmoid, and `RsqrtGrad` one with
 * −y³ / 2.
 */
export function gatedRows(p: Program, gate: number, value: number, shape: readonly number[]): number {
  const cubes = p.run('RsqrtGrad', T, gate, p.device.filled(shape, -2 * CUBIC));
  return p.run('SoftplusGrad', T, p.mul(gate, value), p.add(cubes, p.scale(gate, LINEAR)));
}

/** gelu(gate) · value */
const gatedGelu = (p: Program, gate: number, value: number): number => p.mul(p.mul(gate, share(p, gate)), value);

/**
 * Rotates each feature of the first half together with the one at the same index in the second half: x · [cos, cos] plus
 * x with its halves exchanged · [−sin, sin].
 *
 * x (B, T, N, H); cos, sin (1 or B, T, 1, H / 2)
 */
function rotate(p: Program, x: TensorInfo, cos: number, sin: number, direction: 1 | -1): number {
  const id = p.of(x);
  const last = x.shape.length - 1;
  const opposite = p.scale(sin, -1);
  const [first, second] = direction === 1 ? [opposite, sin] : [sin, opposite];
  const exchanged = p.exchanged(id, x.shape[last]! / 2, last);
  return p.add(p.mul(id, p.concat(cos, cos, last)), p.mul(exchanged, p.concat(first, second, last)));
}

const rotation = (device: Device, direction: 1 | -1) =>
  kernelOf<'x' | 'cos' | 'sin'>(device, (p, {x, cos, sin}) =>
    p.take(rotate(p, x, p.of(cos), p.of(sin), direction), x.shape),
  );

export const layerKernels = (device: Device): KernelMap => ({
  Gemma3RmsNorm: kernelOf<'x' | 'scale', {epsilon: number}>(device, (p, {x, scale}, {epsilon}) => {
    const id = p.of(x);
    return p.take(p.mul(p.mul(id, inverseRms(p, id, epsilon)), p.plus(p.of(scale), 1)), x.shape);
  }),
  Gemma3RmsNormGradientX: kernelOf<'dy' | 'x' | 'scale', {epsilon: number}>(device, (p, {dy, x, scale}, {epsilon}) => {
    const inverse = inverseRms(p, p.of(x), epsilon);
    const normed = p.mul(p.of(x), inverse);
    const slope = p.mul(p.of(dy), p.plus(p.of(scale), 1));
    const along = p.mean(p.mul(slope, normed), -1);
    return p.take(p.mul(inverse, p.sub(slope, p.mul(normed, along))), x.shape);
  }),
  Gemma3Rotary: rotation(device, 1),
  Gemma3RotaryGradient: rotation(device, -1),
  Gemma3Gelu: kernelOf<'x'>(device, (p, {x}) => {
    const id = p.of(x);
    return p.take(p.mul(id, share(p, id)), x.shape);
  }),
  Gemma3GatedGelu: kernelOf<'gate' | 'value'>(device, (p, {gate, value}) =>
    p.take(gatedGelu(p, p.of(gate), p.of(value)), gate.shape),
  ),
  Gemma3GeluGradient: kernelOf<'dy' | 'x', object, 'value'>(device, (p, {dy, x, value}) => {
    const id = p.of(x);
    const square = p.square(id);
    const passed = p.sigmoid(p.mul(id, p.plus(p.scale(square, CUBIC), LINEAR)));
    // d/dx (x s(u)) = s (1 + x (1 − s) du/dx), and x du/dx = x (LINEAR + 3 CUBIC x²).
    const steep = p.mul(id, p.plus(p.scale(square, 3 * CUBIC), LINEAR));
    const derivative = p.mul(passed, p.plus(p.mul(steep, p.plus(p.scale(passed, -1), 1)), 1));
    const weighted = value ? p.mul(p.of(dy), p.of(value)) : p.of(dy);
    return p.take(p.mul(weighted, derivative), x.shape);
  }),
});

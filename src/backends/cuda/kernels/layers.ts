/** Norms, rotary positions and gates, in few operations. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, type Program, type ShortAttributes} from '../device';
import {kernelOf} from './kernel';

const T: ShortAttributes = {T: FLOAT};

/** tanh(u) = 2 sigmoid(2u) − 1, so GELU is x · sigmoid(x (LINEAR + CUBIC x²)). */
const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = LINEAR * 0.044715;

/** The factor of a norm, with √D instead of the mean: x / √(mean(x²) + ε) = x · √D / √(Σ x² + D ε). */
export const gainOf = (device: Device, scale: TensorInfo): number =>
  device.attached(scale, 'gain', p => p.scale(p.plus(p.of(scale), 1), Math.sqrt(scale.shape[0]!)));

/** 1 / √(Σ x² + D ε) of each row of x (…, D): (rows, 1). */
function inverseLengths(p: Program, {shape}: TensorInfo, x: number, epsilon: number): number {
  const width = shape.at(-1)!;
  const squares = p.square(p.reshape(p.length(x, -1), [sizeOf(shape) / width, 1]));
  return p.rsqrt(p.plus(squares, width * epsilon));
}

/** Both factors of all numbers, of the shape of x: of their row (rows, 1), and of their column (D). */
const factorsOf = (p: Program, {shape}: TensorInfo, inverse: number, gain: number): number =>
  p.reshape(p.matMul(inverse, p.reshape(gain, [1, shape.at(-1)!])), shape);

/** sigmoid(x (LINEAR + CUBIC x²)), which for a gate x is the share of it that passes. */
const share = (p: Program, x: number, square = p.square(x)): number =>
  p.sigmoid(p.mul(x, p.plus(p.scale(square, CUBIC), LINEAR)));

/**
 * gelu(gate) · value of few rows, in fewer operations: `SoftplusGrad` is a product with a sigmoid, and `RsqrtGrad` one with
 * −y³ / 2.
 */
export function gatedRows(p: Program, gate: number, value: number, shape: readonly number[]): number {
  const cubes = p.run('RsqrtGrad', T, gate, p.device.filled(shape, -2 * CUBIC));
  return p.run('SoftplusGrad', T, p.mul(gate, value), p.add(cubes, p.scale(gate, LINEAR)));
}

/** A share that the gradient for a gate leaves to the one for its value, which comes next. */
const SHARE = 'share';

/** gelu(gate) · value */
const gatedGelu = (p: Program, gate: TensorInfo, value: number): number => {
  const id = p.of(gate);
  return p.mul(p.mul(id, p.device.kept(gate, SHARE) ?? share(p, id)), value);
};

/**
 * Rotates each feature of the first half together with the one at the same index in the second half: x · cos plus x with
 * its halves exchanged · [−sin, sin].
 *
 * x (B, T, N, H); cos, sin (1 or B, T, 1, H / 2)
 */
function rotate(p: Program, x: TensorInfo, cos: TensorInfo, sin: TensorInfo, direction: 1 | -1): number {
  const half = x.shape.at(-1)! / 2;
  const byHalves = (tensor: TensorInfo, halves: 1 | 2) =>
    p.reshape(p.of(tensor), [...tensor.shape.slice(0, -1), halves, half]);
  const halves = byHalves(x, 2);
  const exchanged = p.exchanged(halves, 1, x.shape.length - 1);
  const sines = p.mul(byHalves(sin, 1), p.device.floats([-direction, direction], [2, 1]));
  return p.reshape(p.add(p.mul(halves, byHalves(cos, 1)), p.mul(exchanged, sines)), x.shape);
}

const rotation = (device: Device, direction: 1 | -1) =>
  kernelOf<'x' | 'cos' | 'sin'>(device, (p, {x, cos, sin}) => p.take(rotate(p, x, cos, sin, direction), x.shape));

export const layerKernels = (device: Device): KernelMap => ({
  Gemma3RmsNorm: kernelOf<'x' | 'scale', {epsilon: number}>(device, (p, {x, scale}, {epsilon}) => {
    const id = p.of(x);
    const inverse = inverseLengths(p, x, id, epsilon);
    return p.take(p.mul(id, factorsOf(p, x, inverse, gainOf(device, scale))), x.shape);
  }),
  // y = x s g with s = 1 / √(Σ x² + D ε), so dx = dy s g − x s³ Σ dy x g.
  Gemma3RmsNormGradientX: kernelOf<'dy' | 'x' | 'scale', {epsilon: number}>(device, (p, {dy, x, scale}, {epsilon}) => {
    const [id, slope, gain] = [p.of(x), p.of(dy), gainOf(device, scale)];
    const width = x.shape.at(-1)!;
    const rows = sizeOf(x.shape) / width;
    const inverse = inverseLengths(p, x, id, epsilon);
    const along = p.matMul(p.reshape(p.mul(slope, id), [rows, width]), p.reshape(gain, [width, 1])); // (rows, 1)
    // RsqrtGrad is a product with −s³ / 2.
    const turned = p.reshape(p.run('RsqrtGrad', T, inverse, p.scale(along, 2)), [...x.shape.slice(0, -1), 1]);
    return p.take(p.add(p.mul(slope, factorsOf(p, x, inverse, gain)), p.mul(id, turned)), x.shape);
  }),
  Gemma3Rotary: rotation(device, 1),
  Gemma3RotaryGradient: rotation(device, -1),
  Gemma3Gelu: kernelOf<'x'>(device, (p, {x}) => {
    const id = p.of(x);
    return p.take(p.mul(id, share(p, id)), x.shape);
  }),
  Gemma3GatedGelu: kernelOf<'gate' | 'value'>(device, (p, {gate, value}) =>
    p.take(gatedGelu(p, gate, p.of(value)), gate.shape),
  ),
  Gemma3GeluGradient: kernelOf<'dy' | 'x', object, 'value'>(device, (p, {dy, x, value}) => {
    const id = p.of(x);
    const square = p.square(id);
    const passed = value ? device.attached(x, SHARE, own => share(own, id, square)) : share(p, id, square);
    // d/dx (x s(u)) = s + x s (1 − s) du/dx, and x du/dx = x (LINEAR + 3 CUBIC x²). SigmoidGrad is a product with s (1 − s).
    const steep = p.mul(id, p.plus(p.scale(square, 3 * CUBIC), LINEAR));
    const weighted = value ? p.mul(p.of(dy), p.of(value)) : p.of(dy);
    const bent = p.run('SigmoidGrad', T, passed, p.mul(weighted, steep));
    return p.take(p.add(p.mul(weighted, passed), bent), x.shape);
  }),
});

/** Norms, rotary positions and gates, in few operations. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {originalTable} from '../../../ops/rotary';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, type Program, type ShortAttributes} from '../device';
import {type Operations, runFormula} from '../graph';
import {kernelOf} from './kernel';
import {known} from './step_tables';

const T: ShortAttributes = {T: FLOAT};

/** tanh(u) = 2 sigmoid(2u) − 1, so GELU is x · sigmoid(x (LINEAR + CUBIC x²)). */
const LINEAR = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = LINEAR * 0.044715;

/** The factor of a norm, with √D instead of the mean: x / √(mean(x²) + ε) = x · √D / √(Σ x² + D ε). */
export const gainOf = (device: Device, scale: TensorInfo): number =>
  device.attached(scale, 'gain', p => p.scale(p.plus(p.of(scale), 1), Math.sqrt(scale.shape[0]!)));

/** 1 / √(Σ x² + D ε) of each row of x (…, D): (…, 1). */
const inverseLengths = <H>(o: Operations<H>, x: H, width: number, epsilon: number): H =>
  o.rsqrt(o.plus(o.square(o.length(x, -1)), width * epsilon));

/** x (…, D), normalized. */
export const normalized = <H>(o: Operations<H>, x: H, gain: H, width: number, epsilon: number): H =>
  o.then(o.mul(x, inverseLengths(o, x, width, epsilon)), own => o.mul(own, gain));

/** x (LINEAR + CUBIC x²): its sigmoid is the share of a gate x that passes. */
const bend = <H>(o: Operations<H>, x: H, square: H): H =>
  o.then(
    o.then(o.scale(square, CUBIC), own => o.plus(own, LINEAR)),
    own => o.mul(x, own),
  );

/** The share of x that passes. */
const share = <H>(o: Operations<H>, x: H, square: H): H => o.then(bend(o, x, square), bent => o.sigmoid(bent));

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

/** gelu(gate) · value of many rows. */
export const gated = <H>(o: Operations<H>, gate: H, value: H): H =>
  o.then(
    o.then(o.mul(gate, gate), square => bend(o, gate, square)),
    // A product with a sigmoid.
    bent => o.then(o.mul(gate, value), product => o.run('SoftplusGrad', T, product, bent)),
  );

/** dy gelu'(x), and the share of x that passes. */
function geluGradient<H>(o: Operations<H>, x: H, dy: H): [gradient: H, passed: H] {
  const square = o.mul(x, x);
  const passed = share(o, x, square);
  // d/dx (x s(u)) = s + x s (1 − s) du/dx, and x du/dx = x (LINEAR + 3 CUBIC x²). SigmoidGrad is a product with s (1 − s).
  const steep = o.then(
    o.then(
      o.then(square, own => o.scale(own, 3 * CUBIC)),
      own => o.plus(own, LINEAR),
    ),
    own => o.mul(own, x),
  );
  const slope = o.then(
    o.then(steep, own => o.run('SigmoidGrad', T, passed, own)),
    own => o.add(own, passed),
  );
  return [o.then(slope, own => o.mul(own, dy)), passed];
}

/**
 * Numbers for the halves of each head, (1 or B, T, 1, H / 2), as (1 or B, T, 1, H), with a sign for each half. All blocks
 * of a kind have copies of one table.
 */
function forHalves(device: Device, half: TensorInfo, first: 1 | -1, second: 1 | -1): number {
  const key = `halves ${first} ${second}`;
  const make = (p: Program) => {
    const id = p.of(half);
    const signed = (sign: 1 | -1) => (sign === 1 ? id : p.scale(id, -1));
    return p.concat(signed(first), signed(second), half.shape.length - 1);
  };
  const {values} = device.backend.tensorMap.get(half.dataId);
  const table = values && originalTable(values);
  if (!table) return device.attached(half, key, make);
  return known(device, `${key} of ${half.shape.join()}`, table, () => device.program(p => p.release(make(p)), false));
}

/**
 * Rotates each feature of the first half together with the one at the same index in the second half: x · cos plus x with
 * its halves exchanged · [−sin, sin].
 *
 * x (B, T, N, H); cos, sin (1 or B, T, 1, H / 2)
 */
function rotate(p: Program, x: TensorInfo, cos: TensorInfo, sin: TensorInfo, direction: 1 | -1): number {
  const axis = x.shape.length - 1;
  const half = x.shape[axis]! / 2;
  const inputs = {
    x: p.of(x),
    cosines: forHalves(p.device, cos, 1, 1),
    sines: forHalves(p.device, sin, direction === 1 ? -1 : 1, direction),
  };
  return runFormula(p, `rotate ${half} ${axis}`, inputs, (o, {x, cosines, sines}) => [
    o.then(
      o.then(o.exchanged(x, half, axis), own => o.mul(own, sines)),
      turned => o.then(o.mul(x, cosines), own => o.add(own, turned)),
    ),
  ])[0]!;
}

const rotation = (device: Device, direction: 1 | -1) =>
  kernelOf<'x' | 'cos' | 'sin'>(device, (p, {x, cos, sin}) => p.take(rotate(p, x, cos, sin, direction), x.shape));

export const layerKernels = (device: Device): KernelMap => ({
  Gemma3RmsNorm: kernelOf<'x' | 'scale', {epsilon: number}>(device, (p, {x, scale}, {epsilon}) => {
    const width = scale.shape[0]!;
    const inputs = {x: p.of(x), gain: gainOf(device, scale)};
    const [id] = runFormula(p, `norm ${width} ${epsilon}`, inputs, (o, {x, gain}) => [
      normalized(o, x, gain, width, epsilon),
    ]);
    return p.take(id!, x.shape);
  }),
  // y = x s g with s = 1 / √(Σ x² + D ε), so dx = dy g s − x s³ Σ dy g x.
  Gemma3RmsNormGradientX: kernelOf<'dy' | 'x' | 'scale', {epsilon: number}>(device, (p, {dy, x, scale}, {epsilon}) => {
    const width = scale.shape[0]!;
    const inputs = {dy: p.of(dy), x: p.of(x), gain: gainOf(device, scale)};
    const [id] = runFormula(p, `norm gradient ${width} ${epsilon}`, inputs, (o, {dy, x, gain}) => {
      const inverse = inverseLengths(o, x, width, epsilon);
      const slope = o.mul(dy, gain);
      const along = o.then(o.mul(slope, x), own => o.sum(own, -1)); // (…, 1)
      // RsqrtGrad is a product with −s³ / 2.
      const turned = o.run('RsqrtGrad', T, inverse, o.scale(along, 2));
      return [
        o.then(
          o.then(slope, own => o.mul(own, inverse)),
          straight => o.then(o.mul(x, turned), own => o.add(own, straight)),
        ),
      ];
    });
    return p.take(id!, x.shape);
  }),
  Gemma3Rotary: rotation(device, 1),
  Gemma3RotaryGradient: rotation(device, -1),
  Gemma3Gelu: kernelOf<'x'>(device, (p, {x}) => {
    const id = p.of(x);
    return p.take(p.mul(id, share(p, id, p.square(id))), x.shape);
  }),
  Gemma3GatedGelu: kernelOf<'gate' | 'value'>(device, (p, {gate, value}) => {
    const [id, other, passed] = [p.of(gate), p.of(value), p.device.kept(gate, SHARE)];
    const [result] =
      passed === undefined
        ? runFormula(p, 'gated', {gate: id, value: other}, (o, {gate, value}) => [gated(o, gate, value)])
        : runFormula(p, 'share', {gate: id, passed, value: other}, (o, {gate, passed, value}) => [
            o.then(o.mul(gate, passed), own => o.mul(own, value)),
          ]);
    return p.take(result!, gate.shape);
  }),
  Gemma3GeluGradient: kernelOf<'dy' | 'x', object, 'value'>(device, (p, {dy, x, value}) => {
    const inputs = {x: p.of(x), dy: p.of(dy)};
    const [gradient, passed] = value
      ? runFormula(p, 'gate gradient', {...inputs, value: p.of(value)}, (o, {x, dy, value}) => {
          const [through, passed] = geluGradient(o, x, dy);
          return [o.then(through, own => o.mul(own, value)), passed];
        })
      : runFormula(p, 'gelu gradient', inputs, (o, {x, dy}) => geluGradient(o, x, dy));
    if (value) device.attached(x, SHARE, own => own.own(p.release(passed!)));
    return p.take(gradient!, x.shape);
  }),
});

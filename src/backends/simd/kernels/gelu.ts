/** GELU in its tanh form, gated and plain, and its gradient. */
import {sizeOf} from '../../../base/shapes';
import {type KernelMap} from '../../kernel_map';
import {GATED_GELU, GELU, GELU_GRADIENT} from '../assembly/numbers';
import {type Command} from '../engine/command';
import {kernel} from './kernel';

// === Commands ===

/** y = gelu(gate) · value; y may be either. */
export const gatedGelu = (a: {gate: number; value: number; y: number; count: number}): Command => [
  GATED_GELU,
  [a.gate, a.value, a.y, a.count],
];

/** y = gelu(x) */
export const gelu = (a: {x: number; y: number; count: number}): Command => [GELU, [a.x, a.y, a.count]];

/** dx = dy · value · gelu′(x); without a value: dy · gelu′(x). */
export const geluGradient = (a: {dy: number; x: number; value?: number; dx: number; count: number}): Command => [
  GELU_GRADIENT,
  [a.dy, a.x, a.value ?? 0, a.dx, a.count],
];

// === Kernels ===

const gatedGeluKernel = kernel<'gate' | 'value'>((backend, inputs) => {
  const {shape} = inputs.gate;
  const call = backend.call(inputs, {shape});
  return call.run(gatedGelu({gate: call.at('gate'), value: call.at('value'), y: call.y, count: sizeOf(shape)}));
});

const geluKernel = kernel<'x'>((backend, inputs) => {
  const {shape} = inputs.x;
  const call = backend.call(inputs, {shape});
  return call.run(gelu({x: call.at('x'), y: call.y, count: sizeOf(shape)}));
});

const geluGradientKernel = kernel<'dy' | 'x', object, 'value'>((backend, inputs) => {
  const {shape} = inputs.x;
  const call = backend.call(inputs, {shape});
  const places = {dy: call.at('dy'), x: call.at('x'), value: call.maybeAt('value'), dx: call.y};
  return call.run(geluGradient({...places, count: sizeOf(shape)}));
});

export const geluKernels: KernelMap = {
  Gemma3GatedGelu: gatedGeluKernel,
  Gemma3Gelu: geluKernel,
  Gemma3GeluGradient: geluGradientKernel,
};

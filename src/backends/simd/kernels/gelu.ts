/** GELU in its tanh form, gated and plain, and its gradient. */
import {sizeOf} from '../../../base/shapes';
import {type KernelMap} from '../../kernel_map';
import {GatedGeluWord, GeluGradientWord, GeluWord} from '../assembly/layouts/gelu';
import {GATED_GELU, GELU, GELU_GRADIENT} from '../assembly/numbers';
import {type Command} from '../engine/command';
import {kernel} from './kernel';

// === Commands ===

/** y = gelu(gate) · value; y may be gate or value. */
export function gatedGelu(a: {gate: number; value: number; y: number; count: number}): Command {
  const words = new Array<number>(GatedGeluWord.end);
  words[GatedGeluWord.gate] = a.gate;
  words[GatedGeluWord.value] = a.value;
  words[GatedGeluWord.y] = a.y;
  words[GatedGeluWord.count] = a.count;
  return [GATED_GELU, words];
}

/** y = gelu(x) */
export function gelu(a: {x: number; y: number; count: number}): Command {
  const words = new Array<number>(GeluWord.end);
  words[GeluWord.x] = a.x;
  words[GeluWord.y] = a.y;
  words[GeluWord.count] = a.count;
  return [GELU, words];
}

/** dx = dy · value · gelu′(x); without a value: dy · gelu′(x). */
export function geluGradient(a: {dy: number; x: number; value?: number; dx: number; count: number}): Command {
  const words = new Array<number>(GeluGradientWord.end);
  words[GeluGradientWord.dy] = a.dy;
  words[GeluGradientWord.x] = a.x;
  words[GeluGradientWord.value] = a.value ?? 0;
  words[GeluGradientWord.dx] = a.dx;
  words[GeluGradientWord.count] = a.count;
  return [GELU_GRADIENT, words];
}

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

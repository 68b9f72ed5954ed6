/** Rotary position embeddings. */
import {type KernelMap} from '../../kernel_map';
import {ROTARY} from '../assembly/numbers';
import {type Command, floatBits} from '../engine/command';
import {kernel} from './kernel';

export interface RotaryArgs {
  /** (batch, length, heads, width) */
  x: number;
  /** (tableRows, length, width / 2), both. */
  cos: number;
  sin: number;
  /** May be x. */
  y: number;
  batch: number;
  length: number;
  heads: number;
  width: number;
  tableRows: number;
  /** −1 rotates back, which is the gradient. Defaults to 1. */
  direction?: 1 | -1;
}

export const rotary = (a: RotaryArgs): Command => [
  ROTARY,
  [a.x, a.cos, a.sin, a.y, a.batch, a.length, a.heads, a.width, a.tableRows, floatBits(a.direction ?? 1)],
];

const rotaryKernel = (direction: 1 | -1) =>
  kernel<'x' | 'cos' | 'sin'>((backend, inputs) => {
    const {x, cos} = inputs;
    const [batch, length, heads, width] = x.shape as [number, number, number, number];
    const call = backend.call(inputs, {shape: x.shape, preferredBank: ['x']});
    const places = {x: call.at('x'), cos: call.at('cos'), sin: call.at('sin'), y: call.y};
    return call.run(rotary({...places, batch, length, heads, width, tableRows: cos.shape[0]!, direction}));
  });

export const rotaryKernels: KernelMap = {
  Gemma3Rotary: rotaryKernel(1),
  Gemma3RotaryGradient: rotaryKernel(-1),
};

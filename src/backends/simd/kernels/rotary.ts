/** Rotary position embeddings. */
import {type KernelMap} from '../../kernel_map';
import {RotaryWord} from '../assembly/layouts/rotary';
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

export function rotary(a: RotaryArgs): Command {
  const words = new Array<number>(RotaryWord.end);
  words[RotaryWord.x] = a.x;
  words[RotaryWord.cos] = a.cos;
  words[RotaryWord.sin] = a.sin;
  words[RotaryWord.y] = a.y;
  words[RotaryWord.batch] = a.batch;
  words[RotaryWord.length] = a.length;
  words[RotaryWord.heads] = a.heads;
  words[RotaryWord.width] = a.width;
  words[RotaryWord.tableRows] = a.tableRows;
  words[RotaryWord.direction] = floatBits(a.direction ?? 1);
  return [ROTARY, words];
}

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

/** `Gemma3FeedForward`: the second half of a decoder block. See `ops/feed_forward.ts`. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type FeedForwardAttrs, type FeedForwardName} from '../../../ops/feed_forward';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, type Program} from '../device';
import {graphOf, type Operations} from '../graph';
import {kernelOf} from './kernel';
import {gainOf, gated, normalized} from './layers';
import {matrixOf, multiplyPacked} from './matrices';

type Inputs = Record<'x' | 'preNorm' | FeedForwardName, TensorInfo> & {postNorm?: TensorInfo};

const NAMES = ['gate', 'up', 'down'] as const;
const MAT_MUL = {T: FLOAT, transpose_a: false, transpose_b: false};
const BATCH_MAT_MUL = {T: FLOAT, adj_x: false, adj_y: true};
const GELU = {num_args: {int: 1}, fused_ops: ['BiasAdd', 'GeluApproximate']};

/** Rows that are computed at once on a CPU: what lies between two products stays in its caches. */
const ROWS = 512;

/** Rows (n, D) → (n, D), from products of this kind. */
function forRows<H>(
  o: Operations<H>,
  {x, preGain, postGain}: {x: H; preGain: H; postGain?: H},
  width: number,
  epsilon: number,
  product: (name: FeedForwardName, input: H) => H,
  gate: (input: H) => H,
): H {
  const inside = o.then(normalized(o, x, preGain, width, epsilon), gate);
  const out = o.then(inside, own => product('down', own));
  return o.then(postGain === undefined ? out : o.then(out, own => normalized(o, own, postGain, width, epsilon)), own =>
    o.add(x, own),
  );
}

/** As one graph. The gates' product applies GELU to its results before it stores them. */
function inGraph(p: Program, x: number, inputs: Inputs, {forms, epsilon, gateDim}: FeedForwardAttrs) {
  const {device} = p;
  const {preNorm, postNorm, gate, up, down} = inputs;
  // Packed weights are rows of outputs.
  const packed = forms.gate.packing !== null;
  const usable = NAMES.every(
    name => (forms[name].packing !== null) === packed && (!packed || matrixOf(device, inputs[name]).type === FLOAT),
  );
  if (!usable) return undefined;
  const width = preNorm.shape[0]!;
  const handles = {
    x,
    preGain: gainOf(device, preNorm),
    ...(postNorm && {postGain: gainOf(device, postNorm)}),
    ...{gate: p.of(gate), up: p.of(up), down: p.of(down), zeros: device.filled([gateDim], 0)},
  };
  const names = Object.keys(handles);
  const graph = graphOf(device, `feed forward ${packed} ${names.length} ${width} ${epsilon}`, names, g => {
    const product = (name: string, input: string) =>
      packed ? g.run('BatchMatMulV2', BATCH_MAT_MUL, input, name) : g.run('MatMul', MAT_MUL, input, name);
    const fused = {...MAT_MUL, transpose_b: packed, ...GELU};
    const gates = (input: string) => g.run('_FusedMatMul', fused, input, 'gate', 'zeros');
    const own = {x: 'x', preGain: 'preGain', ...(postNorm && {postGain: 'postGain'})};
    return [forRows(g, own, width, epsilon, product, input => g.mul(gates(input), product('up', input)))];
  });
  const results = graph?.(Object.values(handles));
  return results && p.own(results[0]!);
}

/** As operations. */
function inSteps(p: Program, x: number, n: number, inputs: Inputs, {forms, epsilon}: FeedForwardAttrs): number {
  const {preNorm, postNorm} = inputs;
  const product = (name: FeedForwardName, input: number) =>
    forms[name].packing ? multiplyPacked(p, input, inputs[name], n) : p.matMul(input, p.of(inputs[name]));
  const norms = {
    preGain: gainOf(p.device, preNorm),
    ...(postNorm && {postGain: gainOf(p.device, postNorm)}),
  };
  return forRows(p, {x, ...norms}, preNorm.shape[0]!, epsilon, product, input =>
    p.then(product('gate', input), gate => p.then(product('up', input), up => gated(p, gate, up))),
  );
}

export const feedForwardKernels = (device: Device): KernelMap => ({
  Gemma3FeedForward: kernelOf<'x' | 'preNorm' | FeedForwardName, FeedForwardAttrs, 'postNorm'>(
    device,
    (p, inputs, attrs) => {
      const {shape} = inputs.x;
      const width = shape.at(-1)!;
      const count = sizeOf(shape) / width;
      const x = p.reshape(p.of(inputs.x), [count, width]);
      const step = device.backend.isUsingGpuDevice ? count : ROWS;
      const parts: number[] = [];
      for (let first = 0; first < count; first += step) {
        const n = Math.min(step, count - first);
        const run = (own: Program) => {
          const rows = own.slice(x, [first, 0], [n, width]);
          return inGraph(own, rows, inputs as Inputs, attrs) ?? inSteps(own, rows, n, inputs as Inputs, attrs);
        };
        parts.push(p.own(device.program(own => own.release(run(own)), false)));
      }
      return p.take(p.reshape(parts.length === 1 ? parts[0]! : p.concatAll(parts, 0), shape), shape);
    },
  ),
});

/** Layer normalization, GELU, and gradients of what a decoder block is made of: commands, and kernels that run them. */
import * as tf from '@tensorflow/tfjs';
import {type AttentionAttrs, attentionGradientOp} from '../../../ops/attention';
import {
  ATTENTION_GRADIENT,
  GELU,
  GELU_GRADIENT,
  LAYER_NORM,
  NORM_GRADIENT_SCALE,
  NORM_GRADIENT_X,
} from '../assembly/numbers';
import {attentionCall} from './attention_inputs';
import {attention, type AttentionArgs, type Command, floatBits} from '../engine/commands';
import {kernel, rowsOf, type Tensors} from './kernel';

interface NormArgs {
  /** (rows, columns) */
  x: number;
  rows: number;
  columns: number;
  epsilon: number;
}

/** y = (x − mean) / √(variance + epsilon) · gamma + beta */
export const layerNorm = (a: NormArgs & {gamma: number; beta: number; y: number}): Command => [
  LAYER_NORM,
  [a.x, a.gamma, a.beta, a.y, a.rows, a.columns, floatBits(a.epsilon)],
];

/** `layer` or `rms`: gradients of `layerNorm`, whose scale is gamma, or of `rmsNorm`, which has no mean and 1 + scale. */
export type NormKind = 'layer' | 'rms';

/** dx (rows, columns) */
export const normGradientX = (a: NormArgs & {dy: number; scale: number; dx: number; kind: NormKind}): Command => [
  NORM_GRADIENT_X,
  [a.dy, a.x, a.scale, a.dx, a.rows, a.columns, floatBits(a.epsilon), Number(a.kind === 'layer')],
];

/** target (columns); 8 · rows bytes of workspace. */
export const normGradientScale = (
  a: NormArgs & {dy: number; target: number; workspace: number; kind: NormKind},
): Command => [
  NORM_GRADIENT_SCALE,
  [a.dy, a.x, a.target, a.rows, a.columns, floatBits(a.epsilon), Number(a.kind === 'layer'), a.workspace],
];

/** y = gelu(x), in its tanh form. */
export const gelu = (a: {x: number; y: number; count: number}): Command => [GELU, [a.x, a.y, a.count]];

/** dx = dy · value · gelu′(x); no value: dy · gelu′(x). */
export const geluGradient = (a: {dy: number; x: number; value?: number; dx: number; count: number}): Command => [
  GELU_GRADIENT,
  [a.dy, a.x, a.value ?? 0, a.dx, a.count],
];

export interface AttentionGradientArgs extends Omit<AttentionArgs, 'y' | 'partials'> {
  /** As q. */
  dy: number;
  /** Where gradients of q, k and v go. */
  dq: number;
  dk: number;
  dv: number;
  /** `attentionWorkspaceBytes` of memory. */
  workspace: number;
}

export function attentionGradient(a: AttentionGradientArgs): Command {
  const [, args] = attention({...a, y: a.dq, partials: a.workspace});
  return [ATTENTION_GRADIENT, [a.dy, ...args, a.dk, a.dv]];
}

/** Three numbers of each query. */
export function attentionWorkspaceBytes({batch, length, heads}: {batch: number; length: number; heads: number}) {
  return 12 * batch * length * heads;
}

/** Heads up to this width fit into the scratch memory of a thread. */
const MAX_WIDTH = 1536;

const gradientX = (kind: NormKind, scaleName: string) =>
  kernel((backend, {dy, x, [scaleName]: scale}, {epsilon}) => {
    const call = backend.call({dy: dy!, x: x!, scale: scale!}, {shape: x!.shape});
    const places = {dy: call.at('dy'), x: call.at('x'), scale: call.at('scale'), dx: call.y};
    return call.run(normGradientX({...places, ...rowsOf(x!), epsilon: epsilon!, kind}));
  });

const gradientScale = (kind: NormKind) =>
  kernel((backend, {dy, x}, {epsilon}) => {
    const {rows, columns} = rowsOf(x!);
    const call = backend.call({dy: dy!, x: x!}, {shape: [columns], room: 8 * rows});
    const places = {dy: call.at('dy'), x: call.at('x'), target: call.y, workspace: call.room};
    return call.run(normGradientScale({...places, rows, columns, epsilon: epsilon!, kind}));
  });

const layerNormKernel = kernel((backend, {x, gamma, beta}, {epsilon}) => {
  const call = backend.call({x: x!, gamma: gamma!, beta: beta!}, {shape: x!.shape});
  const places = {x: call.at('x'), gamma: call.at('gamma'), beta: call.at('beta'), y: call.y};
  return call.run(layerNorm({...places, ...rowsOf(x!), epsilon: epsilon!}));
});

const geluKernel = kernel((backend, {x}) => {
  const call = backend.call({x: x!}, {shape: x!.shape});
  return call.run(gelu({x: call.at('x'), y: call.y, count: tf.util.sizeFromShape(x!.shape)}));
});

const geluGradientKernel = kernel((backend, inputs) => {
  const {shape} = inputs.x!;
  const call = backend.call(inputs, {shape});
  const places = {dy: call.at('dy'), x: call.at('x'), value: call.maybeAt('value'), dx: call.y};
  return call.run(geluGradient({...places, count: tf.util.sizeFromShape(shape)}));
});

const attentionGradients = kernel<AttentionAttrs>((backend, inputs, attrs) => {
  const {q, k, v} = inputs;
  const [batch, length, heads] = q!.shape as [number, number, number, number];
  const room = attentionWorkspaceBytes({batch, length, heads});
  const {call, args} = attentionCall(backend, inputs, attrs, {shape: q!.shape, more: [k!.shape, v!.shape], room});
  const [dk, dv] = call.moreAt as [number, number];
  const dq = call.run(attentionGradient({...args, dy: call.at('dy'), dq: call.y, dk, dv, workspace: call.room}));
  return [dq, ...call.more];
});

const attentionGradientKernel: tf.KernelFunc = params => {
  if ((params.inputs as unknown as Tensors).q!.shape[3]! <= MAX_WIDTH) return attentionGradients(params);
  return attentionGradientOp.reference(params.inputs as never, params.attrs as never);
};

/** By kernel name. */
export const gradientKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Gemma3LayerNorm: layerNormKernel,
  Gemma3LayerNormGradientX: gradientX('layer', 'gamma'),
  Gemma3LayerNormGradientGamma: gradientScale('layer'),
  Gemma3RmsNormGradientX: gradientX('rms', 'scale'),
  Gemma3RmsNormGradientScale: gradientScale('rms'),
  Gemma3Gelu: geluKernel,
  Gemma3GeluGradient: geluGradientKernel,
  Gemma3AttentionGradient: attentionGradientKernel,
};

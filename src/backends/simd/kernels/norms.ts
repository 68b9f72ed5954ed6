/** RMS and layer normalization, and their gradients. */
import {type KernelMap} from '../../kernel_map';
import {LAYER_NORM, NORM_GRADIENT_SCALE, NORM_GRADIENT_X, RMS_NORM} from '../assembly/numbers';
import {type Command, floatBits} from '../engine/command';
import {kernel, rowsOf} from './kernel';

// === Commands ===

interface NormArgs {
  /** (rows, columns) */
  x: number;
  rows: number;
  columns: number;
  epsilon: number;
}

/** y = x / √(mean(x²) + epsilon) · (1 + scale), with scale (columns); y may be x. */
export const rmsNorm = (a: NormArgs & {scale: number; y: number}): Command => [
  RMS_NORM,
  [a.x, a.scale, a.y, a.rows, a.columns, floatBits(a.epsilon)],
];

/** y = (x − mean) / √(variance + epsilon) · gamma + beta */
export const layerNorm = (a: NormArgs & {gamma: number; beta: number; y: number}): Command => [
  LAYER_NORM,
  [a.x, a.gamma, a.beta, a.y, a.rows, a.columns, floatBits(a.epsilon)],
];

/** Selects the gradients of `layerNorm`, whose scale is gamma, or of `rmsNorm`, which has no mean and scales by 1 + scale. */
export type NormKind = 'layer' | 'rms';

/** dx (rows, columns) */
export const normGradientX = (a: NormArgs & {dy: number; scale: number; dx: number; kind: NormKind}): Command => [
  NORM_GRADIENT_X,
  [a.dy, a.x, a.scale, a.dx, a.rows, a.columns, floatBits(a.epsilon), Number(a.kind === 'layer')],
];

/** target (columns); needs a workspace of 8 · rows bytes. */
export const normGradientScale = (
  a: NormArgs & {dy: number; target: number; workspace: number; kind: NormKind},
): Command => [
  NORM_GRADIENT_SCALE,
  [a.dy, a.x, a.target, a.rows, a.columns, floatBits(a.epsilon), Number(a.kind === 'layer'), a.workspace],
];

// === Kernels ===

type NormAttrs = {epsilon: number};

const rmsNormKernel = kernel<'x' | 'scale', NormAttrs>((backend, inputs, {epsilon}) => {
  const {x} = inputs;
  const call = backend.call(inputs, {shape: x.shape});
  return call.run(rmsNorm({x: call.at('x'), scale: call.at('scale'), y: call.y, ...rowsOf(x), epsilon}));
});

const layerNormKernel = kernel<'x' | 'gamma' | 'beta', NormAttrs>((backend, inputs, {epsilon}) => {
  const {x} = inputs;
  const call = backend.call(inputs, {shape: x.shape});
  const places = {x: call.at('x'), gamma: call.at('gamma'), beta: call.at('beta'), y: call.y};
  return call.run(layerNorm({...places, ...rowsOf(x), epsilon}));
});

const gradientXKernel = <Scale extends 'gamma' | 'scale'>(kind: NormKind, scale: Scale) =>
  kernel<'dy' | 'x' | Scale, NormAttrs>((backend, inputs, {epsilon}) => {
    const {x} = inputs;
    const call = backend.call(inputs, {shape: x.shape});
    const places = {dy: call.at('dy'), x: call.at('x'), scale: call.at(scale), dx: call.y};
    return call.run(normGradientX({...places, ...rowsOf(x), epsilon, kind}));
  });

const gradientScaleKernel = (kind: NormKind) =>
  kernel<'dy' | 'x', NormAttrs>((backend, inputs, {epsilon}) => {
    const {rows, columns} = rowsOf(inputs.x);
    const call = backend.call(inputs, {shape: [columns], workspaceBytes: 8 * rows});
    const places = {dy: call.at('dy'), x: call.at('x'), target: call.y, workspace: call.workspace};
    return call.run(normGradientScale({...places, rows, columns, epsilon, kind}));
  });

export const normKernels: KernelMap = {
  Gemma3RmsNorm: rmsNormKernel,
  Gemma3RmsNormGradientX: gradientXKernel('rms', 'scale'),
  Gemma3RmsNormGradientScale: gradientScaleKernel('rms'),
  Gemma3LayerNorm: layerNormKernel,
  Gemma3LayerNormGradientX: gradientXKernel('layer', 'gamma'),
  Gemma3LayerNormGradientGamma: gradientScaleKernel('layer'),
};

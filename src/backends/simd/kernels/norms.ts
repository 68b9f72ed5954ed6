/** RMS and layer normalization, and their gradients. */
import {type KernelMap} from '../../kernel_map';
import {LayerNormWord, NormGradientScaleWord, NormGradientXWord, RmsNormWord} from '../assembly/layouts/norms';
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
export function rmsNorm(a: NormArgs & {scale: number; y: number}): Command {
  const words = new Array<number>(RmsNormWord.end);
  words[RmsNormWord.x] = a.x;
  words[RmsNormWord.scale] = a.scale;
  words[RmsNormWord.y] = a.y;
  words[RmsNormWord.rows] = a.rows;
  words[RmsNormWord.columns] = a.columns;
  words[RmsNormWord.epsilon] = floatBits(a.epsilon);
  return [RMS_NORM, words];
}

/** y = (x − mean) / √(variance + epsilon) · gamma + beta */
export function layerNorm(a: NormArgs & {gamma: number; beta: number; y: number}): Command {
  const words = new Array<number>(LayerNormWord.end);
  words[LayerNormWord.x] = a.x;
  words[LayerNormWord.gamma] = a.gamma;
  words[LayerNormWord.beta] = a.beta;
  words[LayerNormWord.y] = a.y;
  words[LayerNormWord.rows] = a.rows;
  words[LayerNormWord.columns] = a.columns;
  words[LayerNormWord.epsilon] = floatBits(a.epsilon);
  return [LAYER_NORM, words];
}

/** Selects the gradients of `layerNorm`, with gamma as scale, or of `rmsNorm`, without mean and with 1 + scale. */
export type NormKind = 'layer' | 'rms';

/** dx (rows, columns) */
export function normGradientX(a: NormArgs & {dy: number; scale: number; dx: number; kind: NormKind}): Command {
  const words = new Array<number>(NormGradientXWord.end);
  words[NormGradientXWord.dy] = a.dy;
  words[NormGradientXWord.x] = a.x;
  words[NormGradientXWord.scale] = a.scale;
  words[NormGradientXWord.dx] = a.dx;
  words[NormGradientXWord.rows] = a.rows;
  words[NormGradientXWord.columns] = a.columns;
  words[NormGradientXWord.epsilon] = floatBits(a.epsilon);
  words[NormGradientXWord.centred] = Number(a.kind === 'layer');
  return [NORM_GRADIENT_X, words];
}

/** target (columns); needs a workspace of 8 · rows bytes. */
export function normGradientScale(
  a: NormArgs & {dy: number; target: number; workspace: number; kind: NormKind},
): Command {
  const words = new Array<number>(NormGradientScaleWord.end);
  words[NormGradientScaleWord.dy] = a.dy;
  words[NormGradientScaleWord.x] = a.x;
  words[NormGradientScaleWord.target] = a.target;
  words[NormGradientScaleWord.rows] = a.rows;
  words[NormGradientScaleWord.columns] = a.columns;
  words[NormGradientScaleWord.epsilon] = floatBits(a.epsilon);
  words[NormGradientScaleWord.centred] = Number(a.kind === 'layer');
  words[NormGradientScaleWord.workspace] = a.workspace;
  return [NORM_GRADIENT_SCALE, words];
}

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

/** Layer normalization, GELU, and gradients of what a decoder block is made of: commands, and kernels that run them. */
import * as tf from '@tensorflow/tfjs';
import {type AttentionAttrs, attentionGradientOps} from '../../ops/attention';
import {
  ATTENTION_GRADIENT,
  GELU,
  GELU_GRADIENT,
  LAYER_NORM,
  NORM_GRADIENT_SCALE,
  NORM_GRADIENT_X,
} from './assembly/numbers';
import {locateAttention} from './attention_inputs';
import {attention, type AttentionArgs, type Command, floatBits} from './commands';
import {type SimdBackend} from './simd_backend';

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

const WHICH = {q: 0, k: 1, v: 2} as const;

export interface AttentionGradientArgs extends Omit<AttentionArgs, 'y' | 'partials'> {
  /** As q. */
  dy: number;
  /** Of which input, and where it goes. */
  of: keyof typeof WHICH;
  target: number;
  /** `attentionWorkspaceBytes` of memory. */
  workspace: number;
}

export function attentionGradient(a: AttentionGradientArgs): Command {
  const [, args] = attention({...a, y: a.target, partials: a.workspace});
  return [ATTENTION_GRADIENT, [a.dy, ...args, WHICH[a.of]]];
}

/** Three numbers of each query. */
export function attentionWorkspaceBytes({batch, length, heads}: {batch: number; length: number; heads: number}) {
  return 12 * batch * length * heads;
}

/** Heads up to this width fit into the scratch memory of a thread. */
const MAX_WIDTH = 1536;

type Tensors = Record<string, tf.TensorInfo>;

/** A kernel that fills one new tensor. */
const kernel =
  (
    shapeOf: (inputs: Tensors) => number[],
    run: (backend: SimdBackend, inputs: Tensors, target: number, attrs: Record<string, number>) => void,
  ): tf.KernelFunc =>
  ({inputs, backend: kernelBackend, attrs}) => {
    const backend = kernelBackend as SimdBackend;
    const tensors = inputs as unknown as Tensors;
    const {dataId, shape, dtype, offset} = backend.empty(shapeOf(tensors));
    run(backend, tensors, offset, attrs as unknown as Record<string, number>);
    return {dataId, shape, dtype};
  };

const ofX = ({x}: Tensors) => x!.shape;
const lastAxis = ({x}: Tensors) => [x!.shape.at(-1)!];

function normArgs(backend: SimdBackend, x: tf.TensorInfo, epsilon: number): NormArgs {
  const columns = x.shape.at(-1)!;
  return {x: backend.locate(x), rows: tf.util.sizeFromShape(x.shape) / columns, columns, epsilon};
}

const gradientX = (kind: NormKind, scaleName: string) =>
  kernel(ofX, (backend, inputs, dx, {epsilon}) => {
    const [dy, scale] = [backend.locate(inputs.dy!), backend.locate(inputs[scaleName]!)];
    backend.engine.run(...normGradientX({...normArgs(backend, inputs.x!, epsilon!), dy, scale, dx, kind}));
  });

const gradientScale = (kind: NormKind) =>
  kernel(lastAxis, (backend, {dy, x}, target, {epsilon}) => {
    const [args, at] = [normArgs(backend, x!, epsilon!), backend.locate(dy!)];
    const workspace = backend.scratch(8 * args.rows);
    backend.engine.run(...normGradientScale({...args, dy: at, target, workspace, kind}));
  });

const layerNormKernel = kernel(ofX, (backend, inputs, y, {epsilon}) => {
  const [gamma, beta] = [backend.locate(inputs.gamma!), backend.locate(inputs.beta!)];
  backend.engine.run(...layerNorm({...normArgs(backend, inputs.x!, epsilon!), gamma, beta, y}));
});

const geluKernel = kernel(ofX, (backend, {x}, y) => {
  backend.engine.run(...gelu({x: backend.locate(x!), y, count: tf.util.sizeFromShape(x!.shape)}));
});

const geluGradientKernel = kernel(ofX, (backend, inputs, dx) => {
  const [dy, x] = [backend.locate(inputs.dy!), backend.locate(inputs.x!)];
  const value = inputs.value && backend.locate(inputs.value);
  backend.engine.run(...geluGradient({dy, x, value, dx, count: tf.util.sizeFromShape(inputs.x!.shape)}));
});

const attentionGradientKernel = (of: keyof typeof WHICH): tf.KernelFunc => {
  const run = kernel(
    tensors => tensors[of]!.shape,
    (backend, tensors, target, attrs) => {
      const {args, release} = locateAttention(backend, tensors, attrs as unknown as AttentionAttrs);
      const dy = backend.locate(tensors.dy!);
      const workspace = backend.scratch(attentionWorkspaceBytes(args));
      backend.engine.run(...attentionGradient({...args, dy, of, target, workspace}));
      release();
    },
  );
  return call => {
    if ((call.inputs as unknown as Tensors).q!.shape[3]! <= MAX_WIDTH) return run(call);
    return attentionGradientOps[of].reference(call.inputs as never, call.attrs as never);
  };
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
  Gemma3AttentionGradientQ: attentionGradientKernel('q'),
  Gemma3AttentionGradientK: attentionGradientKernel('k'),
  Gemma3AttentionGradientV: attentionGradientKernel('v'),
};

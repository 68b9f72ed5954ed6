/** Attention and its gradients. */
import {sizeOf} from '../../../base/shapes';
import {type AttentionAttrs, attentionGradientOp} from '../../../ops/attention';
import {valuesOf} from '../../cpu/cpu_backend';
import {type KernelMap} from '../../kernel_map';
import {
  ATTENTION_PARTS,
  AttentionGradientWord,
  AttentionWord,
  PARTIAL_HEADER,
  QUERY_STATISTICS,
  VisibilityWord,
} from '../assembly/layouts/attention';
import {ATTENTION, ATTENTION_GRADIENT} from '../assembly/numbers';
import {BFLOAT16, type Command, FLOAT32, floatBits, type NumberType} from '../engine/command';
import {type Call} from '../memory/call';
import {type SimdBackend} from '../memory/simd_backend';
import {kernel, type KernelInputs} from './kernel';

// === Commands ===

export interface AttentionArgs {
  /** (batch, length, heads, width) */
  q: number;
  /** (batch, size, keyHeads, width), both. */
  k: number;
  v: number;
  /** Their type. Defaults to FLOAT32. */
  keyType?: NumberType;
  /** Same shape as q. */
  y: number;
  batch: number;
  length: number;
  heads: number;
  size: number;
  keyHeads: number;
  width: number;
  scale: number;
  /** Null or omitted for none. */
  logitSoftCap?: number | null;
  window?: number | null;
  bidirectional?: boolean;
  /** int32 (1 or batch, length) and (1 or batch, size); a key at −1 is hidden. */
  queryPositions: number;
  queryPositionRows: number;
  keyPositions: number;
  keyPositionRows: number;
  /** int32 (batch, size); 0 or omitted for none. */
  padding?: number;
  /** int32 (batch, length) and (batch, size): both or neither. */
  queryImages?: number;
  keyImages?: number;
  /** float32 (maskRows, length, size): 0 hides a key. */
  mask?: number;
  maskRows?: number;
  /**
   * For length 1: `attentionPartialBytes` of memory, which lets the threads share the keys. Without it they share batch
   * rows and key heads, of which there may be only one.
   */
  partials?: number;
}

/** The distance that stands for an unlimited window. */
export const FAR = 0x7fffffff;

/** See `src/ops/attention.ts` for the computation. */
export function attention(a: AttentionArgs): Command {
  const words = new Array<number>(AttentionWord.end);
  setAttentionWords(words, 0, a);
  return [ATTENTION, words];
}

/** Fills in the words of `AttentionWord` from `at` on. */
function setAttentionWords(words: number[], at: number, a: AttentionArgs): void {
  const {window = null, bidirectional = false} = a;
  const right = window === null ? FAR : bidirectional ? Math.floor(window / 2) : window - 1;
  const left = window === null ? FAR : bidirectional ? window - right - 1 : window - 1;
  const visibility = at + AttentionWord.visibility;
  words[at + AttentionWord.q] = a.q;
  words[at + AttentionWord.k] = a.k;
  words[at + AttentionWord.v] = a.v;
  words[at + AttentionWord.y] = a.y;
  words[at + AttentionWord.batch] = a.batch;
  words[at + AttentionWord.length] = a.length;
  words[at + AttentionWord.heads] = a.heads;
  words[at + AttentionWord.size] = a.size;
  words[at + AttentionWord.keyHeads] = a.keyHeads;
  words[at + AttentionWord.width] = a.width;
  words[at + AttentionWord.scale] = floatBits(a.scale);
  words[at + AttentionWord.logitSoftCap] = floatBits(a.logitSoftCap ?? 0);
  words[at + AttentionWord.keyType] = a.keyType ?? FLOAT32;
  words[visibility + VisibilityWord.left] = left;
  words[visibility + VisibilityWord.right] = right;
  words[visibility + VisibilityWord.bidirectional] = Number(bidirectional);
  words[visibility + VisibilityWord.queryPositions] = a.queryPositions;
  words[visibility + VisibilityWord.queryPositionRows] = a.queryPositionRows;
  words[visibility + VisibilityWord.keyPositions] = a.keyPositions;
  words[visibility + VisibilityWord.keyPositionRows] = a.keyPositionRows;
  words[visibility + VisibilityWord.padding] = a.padding ?? 0;
  words[visibility + VisibilityWord.queryImages] = a.queryImages ?? 0;
  words[visibility + VisibilityWord.keyImages] = a.keyImages ?? 0;
  words[visibility + VisibilityWord.mask] = a.mask ?? 0;
  words[visibility + VisibilityWord.maskRows] = a.maskRows ?? 1;
  words[at + AttentionWord.partials] = a.partials ?? 0;
}

export function attentionPartialBytes({batch, heads, width}: {batch: number; heads: number; width: number}): number {
  return ATTENTION_PARTS * batch * heads * (PARTIAL_HEADER + width) * 4;
}

export interface AttentionGradientArgs extends Omit<AttentionArgs, 'y' | 'partials'> {
  /** Same shape as q. */
  dy: number;
  /** Gradients of q, k and v. */
  dq: number;
  dk: number;
  dv: number;
  /** `attentionGradientWorkspaceBytes` of memory. */
  workspace: number;
}

export function attentionGradient(a: AttentionGradientArgs): Command {
  const words = new Array<number>(AttentionGradientWord.end);
  words[AttentionGradientWord.dy] = a.dy;
  setAttentionWords(words, AttentionGradientWord.attention, {...a, y: a.dq, partials: a.workspace});
  words[AttentionGradientWord.dk] = a.dk;
  words[AttentionGradientWord.dv] = a.dv;
  return [ATTENTION_GRADIENT, words];
}

export function attentionGradientWorkspaceBytes(a: {batch: number; length: number; heads: number}): number {
  return 4 * QUERY_STATISTICS * a.batch * a.length * a.heads;
}

// === Kernels ===

type Required = 'q' | 'k' | 'v' | 'queryPositions' | 'keyPositions';
type Optional = 'paddingMask' | 'queryImages' | 'keyImages' | 'dy';

/** The type of keys or values of a cache. Those of bfloat16 are pairs in words. */
export const keyTypeOf = ({dtype}: {dtype: string}): NumberType => (dtype === 'int32' ? BFLOAT16 : FLOAT32);

/**
 * Prepares the call of attention or its gradient, and the arguments that both commands share. The first
 * `workspaceBytes` of the call's workspace, a multiple of four, are for the command.
 */
function attentionCall(
  backend: SimdBackend,
  {attentionMask: mask, ...operands}: KernelInputs<Required, Optional | 'attentionMask'>,
  {scale, logitSoftCap, window, bidirectional}: AttentionAttrs,
  {workspaceBytes, ...results}: {shape: number[]; extraShapes?: readonly number[][]; workspaceBytes: number},
): {call: Call<Required | Optional>; args: Omit<AttentionArgs, 'y' | 'partials'>} {
  const [batch, length, heads, width] = operands.q.shape as [number, number, number, number];
  const [, size, keyHeads] = operands.k.shape as [number, number, number];
  const maskBytes = mask ? 4 * sizeOf(mask.shape) : 0;
  const call = backend.call<Required | Optional>(operands, {...results, workspaceBytes: workspaceBytes + maskBytes});
  const maskAt = call.workspace + workspaceBytes;
  // The mask may have any type; the command reads float32.
  if (mask) call.words.floats.set(valuesOf(backend, mask), maskAt / 4);
  const args = {
    ...{q: call.at('q'), k: call.at('k'), v: call.at('v'), keyType: keyTypeOf(operands.k)},
    ...{batch, length, heads, size, keyHeads, width, scale, logitSoftCap, window, bidirectional},
    queryPositions: call.at('queryPositions'),
    queryPositionRows: operands.queryPositions.shape[0]!,
    keyPositions: call.at('keyPositions'),
    keyPositionRows: operands.keyPositions.shape[0]!,
    padding: call.maybeAt('paddingMask'),
    queryImages: call.maybeAt('queryImages'),
    keyImages: call.maybeAt('keyImages'),
    mask: mask && maskAt,
    maskRows: mask?.shape[0],
  };
  return {call, args};
}

const attentionKernel = kernel<Required, AttentionAttrs>((backend, inputs, attrs) => {
  const {shape} = inputs.q;
  const [batch, length, heads, width] = shape as [number, number, number, number];
  const workspaceBytes = length === 1 ? attentionPartialBytes({batch, heads, width}) : 0;
  const {call, args} = attentionCall(backend, inputs, attrs, {shape, workspaceBytes});
  return call.run(attention({...args, y: call.y, partials: workspaceBytes ? call.workspace : undefined}));
});

/** Heads up to this width fit into the scratch memory of a thread. */
const MAX_GRADIENT_WIDTH = 1536;

const attentionGradientKernel = kernel<Required | 'dy', AttentionAttrs>((backend, inputs, attrs) => {
  const {q, k, v} = inputs;
  const [batch, length, heads, width] = q.shape as [number, number, number, number];
  if (width > MAX_GRADIENT_WIDTH) return attentionGradientOp.reference(inputs as never, attrs);
  const workspaceBytes = attentionGradientWorkspaceBytes({batch, length, heads});
  const results = {shape: q.shape, extraShapes: [k.shape, v.shape], workspaceBytes};
  const {call, args} = attentionCall(backend, inputs, attrs, results);
  const [dk, dv] = call.extraOffsets as [number, number];
  const places = {dy: call.at('dy'), dq: call.y, dk, dv, workspace: call.workspace};
  return [call.run(attentionGradient({...args, ...places})), ...call.extraResults];
});

export const attentionKernels: KernelMap = {
  Gemma3Attention: attentionKernel,
  Gemma3AttentionGradient: attentionGradientKernel,
};

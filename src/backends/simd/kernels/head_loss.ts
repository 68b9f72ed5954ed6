/** The loss of the output head, and its gradient for the hidden states, without storing the logits. */
import type * as tf from '@tensorflow/tfjs';
import {type HeadLossAttrs, headLossOp} from '../../../ops/head_loss';
import {valuesOf} from '../../cpu/cpu_backend';
import {type KernelMap} from '../../kernel_map';
import {
  HEAD_ROUND,
  HEAD_ROWS,
  HEAD_SHARES,
  HEAD_STATISTICS_BYTES,
  HEAD_TILE,
  HeadLossWord,
} from '../assembly/layouts/head_loss';
import {HEAD_LOSS} from '../assembly/numbers';
import {COLUMN_BLOCK, type Command, FLOAT32, floatBits, type NumberType} from '../engine/command';
import {TYPES} from '../packing/packing';
import {kernel} from './kernel';

// === Command ===

export interface HeadLossArgs {
  /** (vocabulary, width), packed or float32. */
  w: number;
  type: NumberType;
  /** (rows, width) */
  x: number;
  /** int32 (rows), each below `vocabulary`; the operation checks them. */
  targets: number;
  /** (rows), both: the loss is difference + log(sum). */
  differences: number;
  sums: number;
  /** (rows, width): gradients of the losses for x. 0 or omitted for none. */
  gradients?: number;
  rows: number;
  vocabulary: number;
  width: number;
  /** Null or omitted for none. */
  softCap?: number | null;
  /** `headLossWorkspaceBytes` of memory. */
  workspace: number;
}

export function headLoss(a: HeadLossArgs): Command {
  const words = new Array<number>(HeadLossWord.end);
  words[HeadLossWord.type] = a.type;
  words[HeadLossWord.w] = a.w;
  words[HeadLossWord.x] = a.x;
  words[HeadLossWord.targets] = a.targets;
  words[HeadLossWord.differences] = a.differences;
  words[HeadLossWord.sums] = a.sums;
  words[HeadLossWord.gradients] = a.gradients ?? 0;
  words[HeadLossWord.rows] = a.rows;
  words[HeadLossWord.vocabulary] = a.vocabulary;
  words[HeadLossWord.width] = a.width;
  words[HeadLossWord.softCap] = floatBits(a.softCap ?? 0);
  words[HeadLossWord.workspace] = a.workspace;
  return [HEAD_LOSS, words];
}

/** The number of parts with separate sums into which the vocabulary is divided. The same for up to eight threads. */
const headLossShares = (threads: number): number => Math.max(HEAD_SHARES, threads);

export function headLossWorkspaceBytes({rows, width}: {rows: number; width: number}, threads: number): number {
  const padded = Math.ceil(width / COLUMN_BLOCK) * COLUMN_BLOCK;
  const share = rows * (HEAD_STATISTICS_BYTES / 4 + padded);
  const own = 2 * padded * HEAD_TILE + 2 * HEAD_ROWS * HEAD_TILE;
  return 4 * (Math.ceil(rows / HEAD_ROUND) * HEAD_ROUND * width + headLossShares(threads) * share + threads * own);
}

// === Kernel ===

/** Limit on the number of float32 sums of all shares (32 MB), unless a single block of tokens needs more. */
const MAX_SUMS = 1 << 23;

const headLossKernel = kernel<'hidden' | 'table' | 'targets', HeadLossAttrs>((backend, inputs, attrs) => {
  const {packing, vocabulary, softCap, gradients: withGradients} = attrs;
  // The command cannot read a table that another backend packed.
  if (packing && packing.order !== 'p8') return headLossOp.reference(inputs as never, attrs) as tf.Tensor[];
  const [count, width] = inputs.hidden.shape as [number, number];
  const {threads} = backend.engine;
  const shares = headLossShares(threads);
  const most = Math.max(1, Math.floor(MAX_SUMS / (shares * width * HEAD_ROWS))) * HEAD_ROWS;
  const workspaceBytes = headLossWorkspaceBytes({rows: Math.min(count, most), width}, threads);
  // A single result holds all three: differences, sums, gradients.
  const shape = [2 * count + (withGradients ? count * width : 0)];
  const call = backend.call(inputs, {shape, workspaceBytes, preferredBank: ['table']});
  const command = (row: number) =>
    headLoss({
      type: packing ? TYPES[packing.format] : FLOAT32,
      w: call.at('table'),
      x: call.at('hidden') + 4 * row * width,
      targets: call.at('targets') + 4 * row,
      differences: call.y + 4 * row,
      sums: call.y + 4 * (count + row),
      gradients: withGradients ? call.y + 4 * (2 * count + row * width) : 0,
      rows: Math.min(most, count - row),
      ...{vocabulary, width, softCap},
      workspace: call.workspace,
    });
  const starts = Array.from({length: Math.ceil(count / most)}, (_, i) => i * most);
  const all = call.run(...starts.map(command));
  const values = valuesOf(backend, all) as Float32Array;
  const losses = Float32Array.from({length: count}, (_, i) => values[i]! + Math.log(values[count + i]!));
  const results = [backend.makeTensorInfo([count], 'float32', losses)];
  if (withGradients) results.push(backend.makeTensorInfo([count, width], 'float32', values.slice(2 * count)));
  backend.disposeIntermediateTensorInfo(all);
  return results;
});

export const headLossKernels: KernelMap = {Gemma3HeadLoss: headLossKernel};

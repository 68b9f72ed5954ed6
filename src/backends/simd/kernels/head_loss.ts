/** The loss of the head over a vocabulary: its command, and the kernel that runs it. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../../base/errors';
import {type HeadLossAttrs, headLossOp} from '../../../ops/head_loss';
import {valuesOf} from '../../cpu/cpu_backend';
import {HEAD_LOSS, HEAD_ROUND, HEAD_ROWS, HEAD_TILE} from '../assembly/numbers';
import {COLUMN_BLOCK, type Command, FLOAT32, floatBits, type NumberType} from '../engine/commands';
import {type Tensors} from './kernel';
import {TYPES} from '../packing/packing';
import {type SimdBackend} from '../memory/simd_backend';

export interface HeadLossArgs {
  /** (vocabulary, width), packed or float32. */
  w: number;
  type: NumberType;
  /** (rows, width) */
  x: number;
  /** int32 (rows), each below `vocabulary`; not checked. */
  targets: number;
  /** (rows), both: the loss is difference + log(sum). */
  differences: number;
  sums: number;
  /** (rows, width): gradients of the losses for x. 0 or left out: none. */
  slopes?: number;
  rows: number;
  vocabulary: number;
  width: number;
  /** Null or left out: none. */
  softCap?: number | null;
  /** `headLossWorkspaceBytes` of memory. */
  workspace: number;
}

export const headLoss = (a: HeadLossArgs): Command => [
  HEAD_LOSS,
  [
    ...[a.type, a.w, a.x, a.targets, a.differences, a.sums, a.slopes ?? 0],
    ...[a.rows, a.vocabulary, a.width, floatBits(a.softCap ?? 0), a.workspace],
  ],
];

export function headLossWorkspaceBytes({rows, width}: {rows: number; width: number}, threads: number): number {
  const padded = Math.ceil(width / COLUMN_BLOCK) * COLUMN_BLOCK;
  const own = rows * (4 + padded) + 2 * padded * HEAD_TILE + 2 * HEAD_ROWS * HEAD_TILE;
  return 4 * (Math.ceil(rows / HEAD_ROUND) * HEAD_ROUND * width + threads * own);
}

/** Sums of all threads at once: 32 MB, as long as a block of tokens does not take more. */
const SUMS_AT_ONCE = 1 << 23;

const headLossKernel: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {hidden, table, targets} = params.inputs as unknown as Tensors;
  const attrs = params.attrs as unknown as HeadLossAttrs;
  const {packing, vocabulary, softCap, slopes} = attrs;
  // Rows of another backend.
  if (packing && packing.order !== 'p8') {
    return headLossOp.reference(params.inputs as never, attrs) as tf.Tensor[];
  }
  checkTargets(valuesOf(backend, targets!), vocabulary);
  const [count, width] = hidden!.shape as [number, number];
  const {threads} = backend.engine;
  const most = Math.max(1, Math.floor(SUMS_AT_ONCE / (threads * width * HEAD_ROWS))) * HEAD_ROWS;
  const room = headLossWorkspaceBytes({rows: Math.min(count, most), width}, threads);
  const inputs = {hidden: hidden!, table: table!, targets: targets!};
  // One result for all: differences, sums, slopes.
  const shape = [2 * count + (slopes ? count * width : 0)];
  const call = backend.call(inputs, {shape, room, home: ['table']});
  const command = (row: number) =>
    headLoss({
      type: packing ? TYPES[packing.format] : FLOAT32,
      w: call.at('table'),
      x: call.at('hidden') + 4 * row * width,
      targets: call.at('targets') + 4 * row,
      differences: call.y + 4 * row,
      sums: call.y + 4 * (count + row),
      slopes: slopes ? call.y + 4 * (2 * count + row * width) : 0,
      rows: Math.min(most, count - row),
      ...{vocabulary, width, softCap},
      workspace: call.room,
    });
  const starts = Array.from({length: Math.ceil(count / most)}, (_, i) => i * most);
  const all = call.run(...starts.map(command));
  const values = valuesOf(backend, all) as Float32Array;
  const losses = Float32Array.from({length: count}, (_, i) => values[i]! + Math.log(values[count + i]!));
  const results = [backend.makeTensorInfo([count], 'float32', losses)];
  if (slopes) results.push(backend.makeTensorInfo([count, width], 'float32', values.slice(2 * count)));
  backend.disposeIntermediateTensorInfo(all);
  return results;
};

function checkTargets(targets: ArrayLike<number>, vocabulary: number): void {
  const wrong = Array.from(targets).find(id => !(id >= 0 && id < vocabulary));
  if (wrong === undefined) return;
  throw new ValueError(`Expected targets from 0 to ${vocabulary - 1}. Received: ${wrong}.`);
}

/** By kernel name. */
export const headLossKernels: Readonly<Record<string, tf.KernelFunc>> = {Gemma3HeadLoss: headLossKernel};

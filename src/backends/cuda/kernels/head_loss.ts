/**
 * The loss of the output head, and its gradient for the hidden states, for a part of the vocabulary at a time. The
 * logits of a part stay in the caches of a CPU, and TensorFlow reads the table once for all tokens. What the parts give
 * is added up like attention over keys that come in parts: each has its own sum of exponentials, and the gradient is a
 * mean of rows of the table, weighted by probabilities. See `ops/head_loss.ts`.
 */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type HeadLossAttrs} from '../../../ops/head_loss';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, INT32, type Matrix, type Program} from '../device';
import {lookUpPacked, matrixOf, rowsOf} from './matrices';

/** Logits that exist at once, and the most tokens that they belong to. */
const LOGITS_AT_ONCE = {cpu: 2 ** 21, gpu: 2 ** 26};
const TOKENS_AT_ONCE = 512;

type Inputs = Record<'hidden' | 'table' | 'targets', TensorInfo>;

/** tanh(x / cap), undefined without a cap. */
const cappedShare = (p: Program, x: number, cap: number | null): number | undefined =>
  cap === null ? undefined : p.tanh(p.scale(x, 1 / cap));

/** The derivative of cap · tanh(x / cap), from the tanh. */
const capSlope = (p: Program, share: number): number => p.plus(p.scale(p.square(share), -1), 1);

/**
 * Of n tokens: the largest logit, and the sum of the exponentials of all logits minus that one, (n, 1). If wanted, the
 * sum of those exponentials times their rows of the table as well, (n, D).
 */
type Sums = readonly [largest: number, sum: number, rows?: number];

/** Adds the rows of a part of the table to the sums of x (n, D). */
function addRows(
  p: Program,
  x: number,
  rows: number,
  n: number,
  before: Sums | undefined,
  {softCap: cap, gradients}: HeadLossAttrs,
): Sums {
  let logits = p.timesTransposed(x, rows, n);
  const share = cappedShare(p, logits, cap);
  if (share !== undefined) logits = p.scale(share, cap!);
  const own = p.max(logits, -1);
  const largest = before ? p.maximum(before[0], own) : own;
  const weights = p.then(
    p.then(logits, all => p.sub(all, largest)),
    p.exp,
  );
  const sums = [p.sum(weights, -1)];
  if (gradients) sums.push(p.matMul(share === undefined ? weights : p.mul(weights, capSlope(p, share)), rows));
  if (!before) return [largest, ...sums] as unknown as Sums;
  const shrunk = p.exp(p.sub(before[0], largest));
  return [largest, ...sums.map((sum, i) => p.add(p.mul(before[i + 1]!, shrunk), sum))] as unknown as Sums;
}

/** Losses (n) of some tokens and, if wanted, the gradient of each for its row of x, (n, D). */
function lossesOf(
  p: Program,
  x: number,
  targets: number,
  n: number,
  {table, matrix}: {table: TensorInfo; matrix: Matrix},
  attrs: HeadLossAttrs,
): number[] {
  const {vocabulary, softCap: cap, gradients, packing} = attrs;
  const {device} = p;
  const step = Math.max(1, Math.floor(LOGITS_AT_ONCE[device.backend.isUsingGpuDevice ? 'gpu' : 'cpu'] / n));
  let sums: Sums | undefined;
  for (let first = 0; first < vocabulary; first += step) {
    const before = sums;
    const count = Math.min(step, vocabulary - first);
    // A program of its own, so that the memory of a part serves the next one.
    sums = device.program(own => {
      before?.forEach(id => own.own(id!));
      const rows = rowsOf(own, own.of(table), matrix, first, count);
      return addRows(own, x, rows, n, before, attrs).map(id => own.release(id!)) as unknown as Sums;
    }, false);
  }
  const [largest, sum, weighted] = sums!.map(id => p.own(id!)) as [number, number, number];
  const wanted = packing ? lookUpPacked(p, table, targets, n) : p.gather(p.of(table), targets);
  let logits = p.sum(p.mul(x, wanted), -1);
  const share = cappedShare(p, logits, cap);
  if (share !== undefined) logits = p.scale(share, cap!);
  const losses = p.reshape(p.add(p.log(sum), p.sub(largest, logits)), [n]);
  if (!gradients) return [losses];
  const own = share === undefined ? wanted : p.mul(wanted, capSlope(p, share));
  return [losses, p.sub(p.div(weighted, sum), own)];
}

function headLoss(device: Device, {hidden, table, targets}: Inputs, attrs: HeadLossAttrs): TensorInfo[] {
  const [count, width] = hidden.shape as [number, number];
  const {packing, vocabulary: rows} = attrs;
  const matrix: Matrix = packing ? matrixOf(device, table) : {rows, columns: width, type: FLOAT};
  return device.program(p => {
    const parts: number[][] = [];
    for (let first = 0; first < count; first += TOKENS_AT_ONCE) {
      const n = Math.min(TOKENS_AT_ONCE, count - first);
      const results = device.program(own => {
        const x = own.slice(own.of(hidden), [first, 0], [n, width]);
        const ids = own.slice(own.of(targets), [first], [n], INT32);
        return lossesOf(own, x, ids, n, {table, matrix}, attrs).map(id => own.release(id));
      }, false);
      parts.push(results.map(id => p.own(id)));
    }
    const all = (index: number) => {
      const own = parts.map(part => part[index]!);
      return own.length === 1 ? own[0]! : p.concatAll(own, 0);
    };
    const losses = p.take(all(0), [count]);
    return attrs.gradients ? [losses, p.take(all(1), [count, width])] : [losses];
  });
}

export const headLossKernels = (device: Device): KernelMap => ({
  Gemma3HeadLoss: ({inputs, attrs}) => headLoss(device, inputs as object as Inputs, attrs as object as HeadLossAttrs),
});

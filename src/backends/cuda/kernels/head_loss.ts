/**
 * The loss of the output head, and its gradient for the hidden states, a few tokens at a time. TensorFlow gives the loss
 * of logits together with its gradient in one operation. See `ops/head_loss.ts`.
 */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type HeadLossAttrs} from '../../../ops/head_loss';
import {type KernelMap} from '../../kernel_map';
import {type Device, FLOAT, INT32, type Program, type ShortAttributes} from '../device';
import {multiplyPacked, multiplyPackedTransposed} from './matrices';

/**
 * Logits that exist at once, and as many gradients of them: on a CPU 64 MB of each. Each part of the tokens reads the
 * whole table.
 */
const LOGITS_AT_ONCE = {cpu: 2 ** 24, gpu: 2 ** 26};

const CROSS_ENTROPY: ShortAttributes = {T: FLOAT, Tlabels: INT32};

type Inputs = Record<'hidden' | 'table' | 'targets', TensorInfo>;

/** Losses (n) of some tokens and, if wanted, the gradient of each for its row of x, (n, D). */
function partOf(p: Program, x: number, targets: number, count: number, table: TensorInfo, attrs: HeadLossAttrs) {
  const {packing, softCap: cap, gradients} = attrs;
  let logits = packing ? multiplyPacked(p, x, table) : p.matMul(x, p.of(table), false, true); // (n, V)
  let capped: number | undefined;
  if (cap !== null) {
    const before = logits;
    capped = p.tanh(p.scale(logits, 1 / cap));
    p.delete(before);
    logits = p.scale(capped, cap);
  }
  // Of the logits: the losses, and probabilities minus one-hot targets.
  const [losses, slopes] = p.several('SparseSoftmaxCrossEntropyWithLogits', CROSS_ENTROPY, 2, logits, targets) as [
    number,
    number,
  ];
  p.delete(logits);
  if (!gradients) return [losses];
  const d = capped === undefined ? slopes : p.mul(slopes, p.plus(p.scale(p.square(capped), -1), 1));
  return [losses, packing ? multiplyPackedTransposed(p, d, count, table) : p.matMul(d, p.of(table))];
}

function headLoss(device: Device, {hidden, table, targets}: Inputs, attrs: HeadLossAttrs): TensorInfo[] {
  const [count, width] = hidden.shape as [number, number];
  const most = LOGITS_AT_ONCE[device.backend.isUsingGpuDevice ? 'gpu' : 'cpu'];
  const step = Math.max(1, Math.floor(most / attrs.vocabulary));
  return device.program(p => {
    const parts: number[][] = [];
    for (let first = 0; first < count; first += step) {
      const n = Math.min(step, count - first);
      // A program for each part: what it makes is as large as all else of a training step.
      const results = device.program(own => {
        const x = own.slice(own.of(hidden), [first, 0], [n, width]);
        const ids = own.slice(own.of(targets), [first], [n], INT32);
        return partOf(own, x, ids, n, table, attrs).map(id => own.release(id));
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

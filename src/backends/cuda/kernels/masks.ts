/** Which keys the queries see. All blocks of a kind share the masks of a step, which are built once. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type AttentionAttrs, attentionVisibility} from '../../../ops/attention';
import {type Device, FLOAT, INT32} from '../device';

type Positions = 'queryPositions' | 'keyPositions';
type Optional = 'paddingMask' | 'queryImages' | 'keyImages' | 'attentionMask';
/** See `ops/attention.ts`. */
export type MaskInputs = Record<Positions, tf.TensorInfo> & Partial<Record<Optional, tf.TensorInfo>>;

/** Queries, and the keys that some of them see. */
export interface Part {
  readonly from: number;
  readonly queries: number;
  readonly firstKey: number;
  readonly keys: number;
}

/** Handles. */
export interface Masks {
  /** Added to logits: (B or 1, T or 1, S). */
  readonly hidden: number;
  readonly shape: readonly [batch: number, length: number, keys: number];
  /** Whether each query sees a key, (B or 1, T or 1, 1, 1); undefined if all do. */
  readonly sees: number | undefined;
  /** All queries, in order. */
  readonly parts: readonly Part[];
}

/** Added to the logits of keys that a query cannot see. */
const HIDDEN = 1e9;
/** A model has two kinds of blocks, and two models may take turns. Larger masks are not kept: 16 MB. */
const MOST_KEPT = 4;
const LARGEST_KEPT = 2 ** 22;

/** Queries of a part on a CPU, where most of their later keys are left out. */
const QUERIES_AT_ONCE = 256;

const kept = new WeakMap<Device, Map<string, Masks>>();

/** The values of int32 tensors, which are in host memory on every device; undefined if there are other masks. */
function keyOf(device: Device, inputs: MaskInputs, {window, bidirectional}: AttentionAttrs): string | undefined {
  if (inputs.attentionMask) return undefined;
  const parts = [`${window} ${bidirectional}`];
  for (const [name, tensor] of Object.entries(inputs) as [string, tf.TensorInfo | undefined][]) {
    if (!tensor) continue;
    const entry = device.backend.tensorMap.get(tensor.dataId);
    if (entry.dtype !== INT32) return undefined;
    const values = (entry.values ?? device.binding.tensorDataSync(entry.id)) as Int32Array;
    parts.push(`${name} ${tensor.shape.join()}: ${values.join()}`);
  }
  return parts.join('; ');
}

/** Parts of `length` queries with the keys that they see, from (batch, T or 1, keys): 1 for those seen. */
function partsOf(
  seen: ArrayLike<number>,
  [batch, rows, keys]: readonly [number, number, number],
  length: number,
): Part[] {
  const step = rows === 1 ? length : QUERIES_AT_ONCE;
  const parts: Part[] = [];
  for (let from = 0; from < length; from += step) {
    const queries = Math.min(step, length - from);
    let [firstKey, end] = [0, keys];
    const isSeen = (key: number): boolean => {
      for (let row = 0; row < batch; row++) {
        for (let t = Math.min(from, rows - 1); t < Math.min(from + queries, rows); t++) {
          if (seen[(row * rows + t) * keys + key]) return true;
        }
      }
      return false;
    };
    while (end > 1 && !isSeen(end - 1)) end--;
    while (firstKey < end - 1 && !isSeen(firstKey)) firstKey++;
    parts.push({from, queries, firstKey, keys: end - firstKey});
  }
  return parts;
}

const IDENTITY = {T: FLOAT};

function make(device: Device, inputs: MaskInputs, attrs: AttentionAttrs): Masks {
  const length = inputs.queryPositions.shape[1]!;
  const own = (tensor: tf.Tensor) =>
    device.program(p => p.release(p.run('Identity', IDENTITY, p.of(tensor as tf.TensorInfo))));
  let masks: Masks | undefined;
  tf.tidy(() => {
    const seen = attentionVisibility(inputs as object as Parameters<typeof attentionVisibility>[0], attrs);
    const [batch, rows, keys] = seen.shape;
    const hidden = own(tf.mul(tf.sub(seen.toFloat(), 1), HIDDEN));
    const sees = tf.any(seen, -1).toFloat();
    const all = tf.min(sees).dataSync()[0] === 1;
    const some = all ? undefined : own(tf.reshape(sees, [batch, rows, 1, 1]));
    const whole = device.backend.isUsingGpuDevice || length <= QUERIES_AT_ONCE;
    const parts = whole
      ? [{from: 0, queries: length, firstKey: 0, keys}]
      : partsOf(seen.dataSync(), seen.shape, length);
    masks = {hidden, shape: seen.shape, sees: some, parts};
  });
  return masks!;
}

function release(device: Device, {hidden, sees}: Masks): void {
  device.binding.deleteTensor(hidden);
  if (sees !== undefined) device.binding.deleteTensor(sees);
}

/** Runs a program with the masks of these inputs. */
export function withMasks<R>(device: Device, inputs: MaskInputs, attrs: AttentionAttrs, run: (masks: Masks) => R): R {
  const key = keyOf(device, inputs, attrs);
  let own = kept.get(device);
  if (!own) kept.set(device, (own = new Map()));
  const known = key === undefined ? undefined : own.get(key);
  if (known) return run(known);
  const masks = make(device, inputs, attrs);
  if (key === undefined || sizeOf(masks.shape) > LARGEST_KEPT) {
    try {
      return run(masks);
    } finally {
      release(device, masks);
    }
  }
  own.set(key, masks);
  for (const [first, old] of own) {
    if (own.size <= MOST_KEPT) break;
    own.delete(first);
    release(device, old);
  }
  return run(masks);
}

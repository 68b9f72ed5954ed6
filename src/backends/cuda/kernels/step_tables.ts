/** What all blocks of a kind share at a step: rotations of the new positions, and which keys are hidden from them. */
import {type FusedBlockAttrs} from '../../../ops/fused_block';
import {type Device, FLOAT, type Program} from '../device';

export interface StepTables {
  /** (B, H, H), of one row (H, H): a row of features times this is rotated to the position of its row. */
  rotation: number;
  /** (B, 1, C), of one row (1, C): added to logits. */
  hidden: number;
}

/** Added to the logits of slots that a query cannot see. */
const HIDDEN = -1e9;
/** A model has two kinds of angles and of caches, but several models may take turns. */
const MOST = 8;

interface Known {
  readonly key: string;
  readonly cos: Float32Array | undefined;
  readonly id: number;
}

const tables = new WeakMap<Device, Known[]>();

/** A handle that is made once for a key and a table of the host, and stays until {@link MOST} others have been made. */
export function known(device: Device, key: string, cos: Float32Array | undefined, make: () => number): number {
  let list = tables.get(device);
  if (!list) tables.set(device, (list = []));
  const at = list.findIndex(one => one.key === key && one.cos === cos);
  if (at >= 0) {
    // The last ones stay longest.
    list.push(...list.splice(at, 1));
    return list.at(-1)!.id;
  }
  const id = make();
  list.push({key, cos, id});
  if (list.length > MOST) device.binding.deleteTensor(list.shift()!.id);
  return id;
}

/** Matrices that rotate each feature of the first half with the one at the same index in the second half. */
function rotations(batch: number, width: number, {cos, sin}: FusedBlockAttrs): Float32Array {
  const half = width / 2;
  const matrices = new Float32Array(batch * width * width);
  // Angles may be given once for all rows.
  const rows = cos.length / half;
  for (let row = 0; row < batch; row++) {
    const at = row * width * width;
    const from = rows === 1 ? 0 : row * half;
    for (let i = 0; i < half; i++) {
      const [c, s] = [cos[from + i]!, sin[from + i]!];
      const [first, second] = [at + i * width, at + (i + half) * width];
      matrices[first + i] = c;
      matrices[first + i + half] = s;
      matrices[second + i] = -s;
      matrices[second + i + half] = c;
    }
  }
  return matrices;
}

/** Slots that are empty, or whose token is outside the window. The token at position p is in slot p mod capacity. */
function hiddenSlots(positions: readonly number[], capacity: number, window: number | null): Float32Array {
  const hidden = new Float32Array(positions.length * capacity);
  positions.forEach((position, row) => {
    for (let slot = 0; slot < capacity; slot++) {
      const distance = (((position - slot) % capacity) + capacity) % capacity;
      const seen = position >= distance && (window === null || distance < window);
      if (!seen) hidden[row * capacity + slot] = HIDDEN;
    }
  });
  return hidden;
}

/** Handles that stay until {@link MOST} others have been made. */
export function tablesOf(
  {device}: Program,
  attrs: FusedBlockAttrs,
  {capacity, width}: {capacity: number; width: number},
): StepTables {
  const {positions, window, cos} = attrs;
  const batch = positions.length;
  const at = positions.join();
  const create = (shape: readonly number[], values: Float32Array) => device.binding.createTensor(shape, FLOAT, values);
  return {
    rotation: known(device, at, cos, () =>
      create([...(batch === 1 ? [] : [batch]), width, width], rotations(batch, width, attrs)),
    ),
    hidden: known(device, `${at} of ${capacity} in ${window}`, undefined, () =>
      create([...(batch === 1 ? [] : [batch]), 1, capacity], hiddenSlots(positions, capacity, window)),
    ),
  };
}

/**
 * Reads from a checkpoint, before kernels are packed, what a model needs to estimate the size of its kernels' inputs.
 */
import type * as tf from '@tensorflow/tfjs';
import {announceReads, type BytePlace} from '../base/byte_source';
import {sizeOf} from '../base/shapes';
import {knowsEnergies} from '../weights/energies';
import {type AnyWeight} from '../weights/packed_weight';
import {type OpenWeight, prepareEnergies} from '../weights/prepare_energies';
import {kerasModels} from './model_paths';
import {inFileOrder, type StoredVariable} from './stored_weights';

interface Read {
  readonly weight: AnyWeight;
  readonly variable: StoredVariable;
}

/**
 * Prepares the energies of a model and of those inside it, if they have kernels to pack and everything that energies
 * depend on is read from values.
 *
 * @param reads what is read afterwards.
 */
export async function readEnergies(model: tf.LayersModel, reads: readonly Read[], open: OpenWeight): Promise<void> {
  const found = new Map(reads.map(read => [read.weight, read]));
  for (const [, inner] of kerasModels(model)) {
    if (!knowsEnergies(inner)) continue;
    const readable = (weight: AnyWeight) => found.get(weight)?.variable.packed === undefined;
    const sources = [...(await inner.energySources()).keys()];
    if (!sources.every(weight => found.has(weight) && readable(weight))) continue;
    await prepareEnergies(inner, open, counts => {
      const ordered = inFileOrder([...counts.keys()].map(weight => found.get(weight)!));
      announceReads(ordered.flatMap(({weight, variable}) => beginningOf(variable, counts.get(weight)!)));
      return ordered.map(({weight}) => weight);
    });
  }
}

/** Where the first `count` values of a variable are. */
function beginningOf({places, byteLength, shape}: StoredVariable, count: number): BytePlace[] {
  let left = Math.ceil((byteLength * count) / sizeOf(shape));
  return places.flatMap(({source, start, end}) => {
    const bytes = Math.min(left, end - start);
    left -= bytes;
    return bytes > 0 ? [{source, start, end: start + bytes}] : [];
  });
}

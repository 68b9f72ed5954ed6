/** Which kernels a model of dtype "int4" stores as int8, because four bits cost them the most. */
import {BYTES_PER_WEIGHT} from '../../../weights/dtype';
import {type Gemma3BackboneConfig} from './backbone_config';

/** Kernels of a decoder block that may be stored as int8. */
export type Int8Kernel = 'value' | 'key' | 'down' | 'up';

/** Maximum average bits per weight over all kernels of the decoder, including the embedding. */
const BITS = 5.5;

type Sizes = Pick<
  Gemma3BackboneConfig,
  'vocabularySize' | 'numLayers' | 'numQueryHeads' | 'numKeyValueHeads' | 'hiddenDim' | 'intermediateDim' | 'headDim'
>;

/**
 * The kernels of each block that are stored as int8. They are ordered by the gain of int8 per bit on the real 270M (see
 * bench/README.md), and as many are taken as {@link BITS} allows: values and keys, which are small and shared by all
 * queries of a group; the last kernel of the first and the last eighth of the blocks, as in llama.cpp's mixed types;
 * and the kernels that the gates multiply, from the first block on.
 */
export function int8Kernels(sizes: Sizes): Int8Kernel[][] {
  const {vocabularySize, numLayers, numQueryHeads, numKeyValueHeads, hiddenDim, intermediateDim, headDim} = sizes;
  const keys = hiddenDim * numKeyValueHeads * headDim;
  const feedForward = hiddenDim * intermediateDim;
  const sizeOf: Record<Int8Kernel, number> = {value: keys, key: keys, down: feedForward, up: feedForward};
  const block = 2 * hiddenDim * numQueryHeads * headDim + 2 * keys + 3 * feedForward;
  const {int4, int8} = BYTES_PER_WEIGHT;
  let bits = (BITS - 8 * int4) * (vocabularySize * hiddenDim + numLayers * block);
  const blocks = Array.from({length: numLayers}, (_, i) => i);
  const eighth = Math.max(1, Math.floor(numLayers / 8));
  const outer = blocks.filter(i => i < eighth || i >= numLayers - eighth);
  const found = blocks.map((): Int8Kernel[] => []);
  const add = (kernel: Int8Kernel, among: readonly number[]) => {
    for (const i of among) {
      const cost = 8 * (int8 - int4) * sizeOf[kernel];
      if (cost > bits) return;
      bits -= cost;
      found[i]!.push(kernel);
    }
  };
  add('value', blocks);
  add('key', blocks);
  add('down', outer);
  add('up', blocks);
  return found;
}

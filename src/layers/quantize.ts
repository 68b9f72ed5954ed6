/** From one format of kernels to another, for a layer or a whole model: what Keras calls `quantize`. */
import {show, ValueError} from '../base/errors';
import {type PackedFormat, parseDtype} from '../weights/dtype';
import {repacked} from '../weights/repack';
import {PackedWeight} from '../weights/packed_weight';
import {type AnyWeight, type Layer} from './layer';

/** Formats that kernels can be packed into. Keras' "float8" and "gptq" are not among them. */
export type QuantizationMode = PackedFormat;

const MODES: readonly QuantizationMode[] = ['int8', 'int4', 'bfloat16'];

const formatOf = (weight: AnyWeight) => (weight instanceof PackedWeight ? weight.format : 'float32');

/** Layers with all layers below them. */
function* flatten(layers: readonly Layer[]): Generator<Layer> {
  for (const layer of layers) {
    yield layer;
    yield* flatten(layer.children);
  }
}

/** Layers that a call is at work on: a second call would pack the same kernels once more. */
const busy = new WeakSet<Layer>();

/**
 * Packs all kernels of these layers and of those below them anew, and changes their dtype. One matrix at a time is there
 * twice; the values of float32 kernels are rounded to bfloat16 first, as those of float32 files are.
 *
 * @throws ValueError for a mode that is not known; for layers that are not built or have no kernels; if all kernels rest
 * as the mode says, or some rest as integers: what was rounded once is not rounded again.
 */
export async function quantizeLayers(owner: string, layers: readonly Layer[], mode: QuantizationMode): Promise<void> {
  if (!MODES.includes(mode)) {
    throw new ValueError(`Expected a mode of quantization: ${MODES.map(show).join(', ')}. Received: ${show(mode)}.`);
  }
  const all = [...flatten(layers)];
  const work = checkedWork(owner, all, mode);
  if (all.some(layer => busy.has(layer))) {
    throw new ValueError(`${owner} is being quantized. Wait for the promise of the first call.`);
  }
  try {
    for (const layer of all) busy.add(layer);
    for (const {layer, kernel} of work) {
      layer.replaceKernel(kernel, await repacked(kernel, layer.kernels.get(kernel)!, mode));
    }
  } finally {
    for (const layer of all) busy.delete(layer);
  }
  for (const layer of all) layer.dtypePolicy = parseDtype(mode);
}

interface Work {
  layer: Layer;
  kernel: AnyWeight;
}

/** What is to be packed; kernels that rest as wanted are none of it. */
function checkedWork(owner: string, layers: readonly Layer[], mode: QuantizationMode): Work[] {
  const found = layers.flatMap(layer => [...layer.kernels.keys()].map(kernel => ({layer, kernel})));
  if (found.length === 0) {
    const built = layers.every(layer => layer.built);
    throw new ValueError(
      `${owner} has no kernels to quantize. ` +
        (built ? 'Quantize a layer that has: Dense, EinsumDense, an embedding, or a model.' : 'Build it first.'),
    );
  }
  const work = found.filter(({kernel}) => formatOf(kernel) !== mode);
  if (work.length === 0) {
    throw new ValueError(`${owner} is already quantized: its weights rest as ${mode}. Received: mode=${show(mode)}.`);
  }
  const rounded = work.filter(({kernel}) => !['float32', 'bfloat16'].includes(formatOf(kernel)));
  if (rounded.length > 0) {
    const {kernel} = rounded[0]!;
    throw new ValueError(
      `${owner} is already quantized: ${rounded.length} of its weights rest as ${formatOf(kernel)}, ` +
        `"${kernel.originalName}" first. Received: mode=${show(mode)}. Load the preset anew, with dtype: ${show(mode)}.`,
    );
  }
  return work;
}

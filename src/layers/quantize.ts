/** Packs the kernels of a layer or a whole model into another format, like Keras' `quantize`. */
import {show, ValueError} from '../base/errors';
import {type Dtype, type PackedFormat, parseDtype, type WeightFormat} from '../weights/dtype';
import {type AnyWeight, type KernelLayout, PackedWeight} from '../weights/packed_weight';
import {repacked} from '../weights/repack';
import {descend, type Tree} from './tree';

/** Formats that kernels can be packed into. Keras' "float8" and "gptq" are not supported. */
export type QuantizationMode = PackedFormat;

/** A layer whose kernels can be packed. */
export interface Quantizable extends Tree<Quantizable> {
  readonly built: boolean;
  dtypePolicy: Dtype;
  /** How kernels are stored under a dtype policy. */
  kernelFormat(policy: Dtype): WeightFormat;
  readonly kernels: ReadonlyMap<AnyWeight, KernelLayout>;
  replaceKernel(old: AnyWeight, replacement: AnyWeight): void;
}

const MODES: readonly QuantizationMode[] = ['int8', 'int4', 'bfloat16'];

const formatOf = (weight: AnyWeight) => (weight instanceof PackedWeight ? weight.format : 'float32');

/** Layers that are being quantized. A second, concurrent call would pack the same kernels twice. */
const busy = new WeakSet<Quantizable>();

/**
 * Packs all kernels of these layers and of the layers below them, and changes their dtype. Only one matrix at a time is
 * in memory in both formats. Values of float32 kernels are rounded to bfloat16 first, like values from float32 files.
 *
 * @param prepare called before the first kernel is packed.
 * @throws ValueError for an unknown mode; for layers that are not built or have no kernels; if all kernels are already
 * stored in this format; if some are stored as integers, because values that were rounded once are not rounded again.
 */
export async function quantizeLayers(
  owner: string,
  layers: readonly Quantizable[],
  mode: QuantizationMode,
  prepare?: () => Promise<void>,
): Promise<void> {
  if (!MODES.includes(mode)) {
    throw new ValueError(`Expected a quantization mode: ${MODES.map(show).join(', ')}. Received: ${show(mode)}.`);
  }
  const all = [...descend(layers)];
  const work = checkedWork(owner, all, mode);
  if (all.some(layer => busy.has(layer))) {
    throw new ValueError(`${owner} is being quantized. Wait for the promise of the first call.`);
  }
  try {
    for (const layer of all) busy.add(layer);
    await prepare?.();
    for (const {layer, kernel, format} of work) {
      const packed = await repacked(kernel, layer.kernels.get(kernel)!, format);
      allowPlainInt4(packed, parseDtype(mode));
      layer.replaceKernel(kernel, packed);
    }
  } finally {
    for (const layer of all) busy.delete(layer);
  }
  for (const layer of all) layer.dtypePolicy = parseDtype(mode);
}

interface Work {
  layer: Quantizable;
  kernel: AnyWeight;
  format: PackedFormat;
}

/**
 * Lets a kernel that an int4 policy stores in more bits accept files in which it has four: those of plain layers, and
 * of older versions.
 */
export function allowPlainInt4(kernel: AnyWeight, {format}: Dtype): void {
  if (kernel instanceof PackedWeight && format === 'int4' && kernel.format !== format) kernel.alternatives = [format];
}

/** The kernels to pack. Kernels already in the wanted format are left out. */
function checkedWork(owner: string, layers: readonly Quantizable[], mode: QuantizationMode): Work[] {
  const policy = parseDtype(mode);
  const found = layers.flatMap(layer =>
    [...layer.kernels.keys()].map(kernel => ({layer, kernel, format: layer.kernelFormat(policy) as PackedFormat})),
  );
  if (found.length === 0) {
    const built = layers.every(layer => layer.built);
    throw new ValueError(
      `${owner} has no kernels to quantize. ` +
        (built
          ? 'Quantize a layer that has kernels: Dense, EinsumDense, an embedding, or a model.'
          : 'Build it first.'),
    );
  }
  // Kernels stored as integers by another policy are not skipped, even if this one would store them in the same format.
  const isDone = ({layer, kernel, format}: Work) =>
    formatOf(kernel) === format && [null, mode].includes(layer.dtypePolicy.quantizationMode);
  const work = found.filter(one => !isDone(one));
  if (work.length === 0) {
    throw new ValueError(
      `${owner} is already quantized: its weights are stored as ${mode}. Received: mode=${show(mode)}.`,
    );
  }
  const rounded = work.filter(({kernel}) => !['float32', 'bfloat16'].includes(formatOf(kernel)));
  if (rounded.length > 0) {
    const {kernel} = rounded[0]!;
    throw new ValueError(
      `${owner} is already quantized: ${rounded.length} of its weights are stored as ${formatOf(kernel)}, ` +
        `the first is "${kernel.originalName}". Received: mode=${show(mode)}. ` +
        `Load the preset again, with dtype: ${show(mode)}.`,
    );
  }
  return work;
}

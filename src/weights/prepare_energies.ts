/** Tells the kernels of a model how large their inputs are, before they are packed. */
import {bfloat16ToFloat32} from '../base/half';
import {knowsEnergies} from './energies';
import {type AnyWeight} from './packed_weight';
import {type ValueStream} from './value_stream';

/** Opens the values of a weight. Meant for one weight after another. */
export type OpenWeight = (weight: AnyWeight) => ValueStream & {dispose?(): void};

/**
 * Tells the kernels of a model how large their inputs are, if the model knows. Called before kernels are packed; the
 * weights themselves may have no values yet.
 *
 * @param inOrder sorts the weights into the order in which they should be read.
 */
export async function prepareEnergies(
  model: object,
  open: OpenWeight,
  inOrder: (sources: ReadonlyMap<AnyWeight, number>) => Iterable<AnyWeight> = sources => sources.keys(),
): Promise<void> {
  if (!knowsEnergies(model)) return;
  const sources = await model.energySources();
  const values = new Map<AnyWeight, Float32Array>();
  for (const weight of inOrder(sources)) {
    const stream = open(weight);
    try {
      const found = new Float32Array(sources.get(weight)!);
      // Matrices are rounded to bfloat16, from which they are packed, so that the energies do not depend on the file's
      // format.
      if (weight.shape.length > 1) bfloat16ToFloat32(await stream.readBfloat16(0, found.length), found);
      else await stream.readFloat32(0, found);
      values.set(weight, found);
    } finally {
      stream.dispose?.();
    }
  }
  await model.setEnergies(values);
}

/** Tensors that must be equal, because this package's model has one weight for both. */
import {ValueError} from '../base/errors';
import {sizeOf} from '../base/shapes';
import {PIECE} from '../weights/value_stream';
import {type StoredVariable} from './stored_weights';

interface Named {
  readonly name: string;
  readonly variable: StoredVariable;
}

/**
 * Compares a head with the embedding.
 *
 * @param checkpoint its name, for errors.
 * @throws ValueError if they differ, with the first values that do; the signal's reason when aborted.
 */
export async function checkTied(
  checkpoint: string,
  head: Named,
  embedding: Named,
  signal: AbortSignal | undefined,
): Promise<void> {
  const differ = (how: string) =>
    new ValueError(
      `Expected "${head.name}" in ${head.variable.file} of "${checkpoint}" to equal "${embedding.name}" in ` +
        `${embedding.variable.file}: in Gemma 3 the head is the embedding. Received ${how}. A model with a separate ` +
        'head cannot be loaded; KerasHub has none either.',
    );
  const [a, b] = [head.variable, embedding.variable];
  if (a.shape.join() !== b.shape.join()) throw differ(`shapes [${a.shape}] and [${b.shape}]`);
  const size = sizeOf(a.shape);
  const [streamA, streamB] = [a.stream(), b.stream()];
  const buffers = [new Float32Array(Math.min(PIECE, size)), new Float32Array(Math.min(PIECE, size))] as const;
  for (let start = 0; start < size; start += PIECE) {
    signal?.throwIfAborted();
    const [left, right] = buffers.map(buffer => buffer.subarray(0, size - start)) as [Float32Array, Float32Array];
    await streamA.readFloat32(start, left);
    await streamB.readFloat32(start, right);
    const place = left.findIndex((value, i) => value !== right[i] && !(Number.isNaN(value) && Number.isNaN(right[i]!)));
    if (place >= 0) throw differ(`${left[place]} and ${right[place]} as value ${start + place}`);
  }
}

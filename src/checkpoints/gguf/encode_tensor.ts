/** The values of a weight as bytes of a GGUF tensor, in pieces. */
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {encoderOf, integerType, integerWriterOf, tensorType, tensorTypeId} from '../../formats/gguf';
import {INTEGER_BLOCK, type IntegerStream} from '../../weights/integer_stream';
import {MEMORY_PIECE, type OpenValues, type ValueStream} from '../../weights/value_stream';
import {ArrangedStream, inverse, type TensorBuffer} from '../arrangement';
import {type ForeignTensor} from '../foreign_names';

/** The values of a weight in the order of the tensor. */
export function inTensorOrder(
  values: ValueStream,
  tensor: ForeignTensor,
  type: string,
  buffer: TensorBuffer,
): ValueStream {
  const {split = tensor.shape, axes, offset = 0} = tensor;
  const order = split.map((_, axis) => (axes ? axes.indexOf(axis) : axis));
  // Values that another file has in the same order are not transposed twice, and its integers stay unchanged.
  if (offset === 0 && values.stored?.axes.join() === order.join()) return values.stored.values;
  // Rounding to bfloat16 earlier gives the same bits, in half the memory.
  return new ArrangedStream(tensor.shape, values, inverse(tensor), type === 'BF16' && offset === 0, buffer);
}

/**
 * The bytes of a tensor. The array of each piece may be reused for the next.
 *
 * @param open opens the values of the weight, in its own order.
 * @throws ValueError if the type cannot hold a value.
 */
export async function* encodedPieces(
  open: () => OpenValues,
  tensor: ForeignTensor,
  type: string,
  buffer: TensorBuffer,
): AsyncGenerator<Uint8Array> {
  const values = open();
  try {
    const ordered = inTensorOrder(values, tensor, type, buffer);
    const integers = fittingIntegers(ordered, type);
    if (integers) yield* integerPieces(integers, tensor, type);
    else if (type === 'BF16') yield* halfPieces(ordered, tensor);
    else yield* floatPieces(ordered, tensor, type);
  } finally {
    values.dispose?.();
  }
}

/** The integers of a stream, if the type can hold them. */
function fittingIntegers({integers}: ValueStream, type: string): IntegerStream | undefined {
  const range = integerType(type);
  return range && integers && integers.least >= range.least && integers.largest <= range.largest ? integers : undefined;
}

async function* halfPieces(values: ValueStream, {shape}: ForeignTensor): AsyncGenerator<Uint8Array> {
  for (const [start, count] of pieces(shape)) {
    const {buffer, byteOffset, byteLength} = await values.readBfloat16(start, count);
    yield new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
  }
}

async function* floatPieces(
  values: ValueStream,
  {shape, name}: ForeignTensor,
  type: string,
): AsyncGenerator<Uint8Array> {
  const encode = encoderOf(type)!;
  const largest = Math.min(sizeOf(shape), MEMORY_PIECE);
  const floats = new Float32Array(largest);
  const bytes = new Uint8Array(bytesOf(largest, type));
  for (const [start, count] of pieces(shape)) {
    const part = floats.subarray(0, count);
    await values.readFloat32(start, part);
    const out = bytes.subarray(0, bytesOf(count, type));
    const unfit = encode(part, out);
    if (unfit >= 0) throw unfitting(name, type, start + unfit, largestOf(part, unfit, type));
    yield out;
  }
}

async function* integerPieces(
  integers: IntegerStream,
  {shape, name}: ForeignTensor,
  type: string,
): AsyncGenerator<Uint8Array> {
  const write = integerWriterOf(type)!;
  const bytes = new Uint8Array(bytesOf(Math.min(sizeOf(shape), MEMORY_PIECE), type));
  for (const [start, count] of pieces(shape)) {
    const blocks = await integers.readIntegers(start, count);
    const out = bytes.subarray(0, bytesOf(count, type));
    const unfit = write(blocks.integers, blocks.scales, out);
    if (unfit >= 0) throw unfitting(name, type, start + unfit, blocks.scales[unfit / INTEGER_BLOCK]!);
    yield out;
  }
}

function* pieces(shape: readonly number[]): Generator<[start: number, count: number]> {
  const size = sizeOf(shape);
  for (let start = 0; start < size; start += MEMORY_PIECE) yield [start, Math.min(MEMORY_PIECE, size - start)];
}

function bytesOf(count: number, type: string): number {
  const {blockSize, blockBytes} = tensorType(tensorTypeId(type))!;
  return (count / blockSize) * blockBytes;
}

/** The value that is too large, in quantized types the largest of its block. */
function largestOf(values: Float32Array, start: number, type: string): number {
  const block = integerType(type) ? values.subarray(start, start + INTEGER_BLOCK) : values.subarray(start, start + 1);
  return block.reduce((most, value) => (Math.abs(value) > Math.abs(most) || Number.isNaN(value) ? value : most));
}

const unfitting = (tensor: string, type: string, place: number, value: number) =>
  new ValueError(
    `Expected numbers that ${type} can hold in "${tensor}". Received: ${value} near value ${place}. Use the dtype bf16 or ` +
      'f32, or check the model.',
  );

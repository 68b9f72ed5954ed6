/** Writes weights for tfjs: the entries of the manifest, and the bytes of the shards. */
import * as tf from '@tensorflow/tfjs';
import {type PresetSink} from '../../base/byte_sink';
import {writeJson} from '../../base/json';
import {sizeOf} from '../../base/shapes';
import {needEnergies} from '../../weights/energies';
import {type AnyWeight, type KernelLayout, PackedWeight} from '../../weights/packed_weight';
import {prepareEnergies} from '../../weights/prepare_energies';
import {type OpenValues, PIECE, type ValueStream} from '../../weights/value_stream';
import {type WrittenModel} from '../checkpoint';
import {kerasPaths} from '../model_paths';
import {storedPieces} from '../saved_weights';
import {type ShardOptions} from '../shard_options';
import {entryBytes, type ManifestEntry, TFJS_FILE} from './manifest';
import {SHARD_SIZE, shardNames, Shards} from './write_shards';

/**
 * Writes `model.json` and the shards.
 *
 * @returns the bytes of all weights.
 */
export async function writeTfjsWeights(
  sink: PresetSink,
  {backbone, open, topology}: WrittenModel,
  {shardSize = SHARD_SIZE, onProgress, signal}: ShardOptions,
): Promise<number> {
  const weights = [...kerasPaths(backbone)];
  for (const [path, weight] of weights) {
    if (weight instanceof PackedWeight && weight.alternatives.length > 0) weight.adoptIntegers(open(weight, path));
  }
  if (needEnergies(weights.map(([, weight]) => weight))) {
    const pathOf = new Map(weights.map(([path, weight]) => [weight, path]));
    await prepareEnergies(backbone, weight => open(weight, pathOf.get(weight)!));
  }
  const entries = weights.map(([, weight]) => manifestEntry(weight));
  const total = entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
  const paths = shardNames(total, shardSize);
  await writeJson(sink, TFJS_FILE, {
    ...{format: 'layers-model', generatedBy: 'tfjs-gemma3', convertedBy: 'tfjs-gemma3'},
    modelTopology: topology(),
    weightsManifest: [{paths, weights: entries}],
  });
  const shards = new Shards(sink, paths, shardSize);
  for (const [path, weight] of weights) {
    for await (const piece of entryPieces(weight, open(weight, path))) {
      signal?.throwIfAborted();
      await shards.write(piece);
      onProgress?.({file: shards.file, saved: shards.written, total});
    }
  }
  await shards.close();
  return total;
}

/** The manifest's entry for a weight. */
export function manifestEntry(weight: AnyWeight): ManifestEntry {
  const {originalName: name} = weight;
  const shape = weight.shape;
  if (!(weight instanceof PackedWeight)) return {name, shape, dtype: 'float32'};
  const {format, packing, rows, columns} = weight;
  // bfloat16 is written in logical order: the physical order differs between backends, and packing it is quick.
  const halves = format === 'bfloat16';
  const physical = halves ? [Math.ceil(sizeOf(shape) / 2)] : packing.physicalShape(rows, columns);
  const order = halves ? 'logical' : packing.order;
  return {name, shape: physical, dtype: 'int32', packed: {format, order, shape}};
}

/**
 * The bytes of a weight in the form of its manifest entry, from values in logical order.
 *
 * @param weight determines how the values are packed. Its own values are not used.
 * @throws ValueError if the current backend cannot pack them.
 */
export async function* entryPieces(weight: AnyWeight, values: OpenValues): AsyncGenerator<Uint8Array> {
  if (!(weight instanceof PackedWeight)) {
    yield* storedPieces(values, 'float32');
  } else if (weight.format === 'bfloat16') {
    yield* storedPieces(values, 'bfloat16');
    if (sizeOf(values.shape) % 2) yield new Uint8Array(2);
  } else {
    yield* packedPieces(weight, values);
  }
}

const ROWS: KernelLayout = {out: [0], in: [1]};

async function* packedPieces(weight: PackedWeight, values: ValueStream): AsyncGenerator<Uint8Array> {
  const {layout, rows, columns, packing} = weight;
  if (![...layout.out, ...layout.in].every((axis, i) => axis === i)) {
    yield* packed(weight, weight.shape, layout, values);
    return;
  }
  // Groups of rows are packed independently, so a large table can be packed in parts.
  const {rowGroup} = packing;
  const integers = (values.stored?.values ?? values).integers;
  const step = Math.max(1, Math.floor(PIECE / columns / rowGroup)) * rowGroup;
  for (let first = 0; first < rows; first += step) {
    const count = Math.min(step, rows - first);
    const part: ValueStream = {
      shape: [count, columns],
      readFloat32: (start, out) => values.readFloat32(first * columns + start, out),
      readBfloat16: (start, length) => values.readBfloat16(first * columns + start, length),
      ...(integers && {
        integers: {
          ...{least: integers.least, largest: integers.largest},
          readIntegers: (start: number, length: number) => integers.readIntegers(first * columns + start, length),
        },
      }),
    };
    yield* packed(weight, [count, columns], ROWS, part);
  }
}

/** Packs a matrix, or some of its rows, in the backend's memory, and frees that memory. */
async function* packed(
  {format, energies}: PackedWeight,
  shape: number[],
  layout: KernelLayout,
  values: ValueStream,
): AsyncGenerator<Uint8Array> {
  const converted = new PackedWeight(shape, layout, 'converted', tf.initializers.zeros(), false, format);
  if (energies) converted.energies = energies;
  try {
    await converted.fill(values);
    const bits = await converted.bits.data();
    yield new Uint8Array(bits.buffer as ArrayBuffer, bits.byteOffset, bits.byteLength);
  } finally {
    converted.dispose();
  }
}

/** The tensor that tfjs saves for a weight. The caller disposes it unless it is the weight's own variable. */
export async function tensorToSave(weight: AnyWeight, values: OpenValues): Promise<tf.Tensor> {
  if (!(weight instanceof PackedWeight)) return weight.read();
  if (weight.format !== 'bfloat16') return tf.clone(weight.bits);
  const words = new Int32Array(Math.ceil(sizeOf(weight.shape) / 2));
  const bytes = new Uint8Array(words.buffer);
  let at = 0;
  for await (const piece of storedPieces(values, 'bfloat16')) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return tf.tensor1d(words, 'int32');
}

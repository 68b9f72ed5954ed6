/** The variables of a backbone in the form in which they are saved: names, dtypes, and values in pieces. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {float32ToFloat16} from '../base/half';
import {sizeOf} from '../base/shapes';
import {type Layer} from '../layers/layer';
import {LoraLayer} from '../layers/lora';
import {MergedStream} from '../weights/merged_stream';
import {type AnyWeight} from '../weights/packed_weight';
import {weightStream} from '../weights/repack';
import {MEMORY_PIECE, type OpenValues} from '../weights/value_stream';
import {kerasLayers, kerasModels} from './model_paths';

/** Dtypes that variables have in files. */
export type StoredDtype = 'float32' | 'bfloat16' | 'float16';

export interface SavedVariable {
  /** Path of its HDF5 group, such as `layers/reversible_embedding/vars`. */
  readonly group: string;
  /** Its name in the group: a number. */
  readonly name: string;
  readonly weight: AnyWeight;
  readonly shape: readonly number[];
  readonly dtype: StoredDtype;
  open(): OpenValues;
}

/** The group `vars` of a layer. Keras writes it even for layers without variables. */
export interface SavedGroup {
  readonly path: string;
  /** Name of the layer, stored as an attribute. */
  readonly layerName: string;
}

export interface SavedWeights {
  readonly groups: readonly SavedGroup[];
  readonly variables: readonly SavedVariable[];
}

/** The dtype of variables under each of Keras' dtype policies; undefined for integers. */
const VARIABLE_DTYPES: Record<string, StoredDtype | undefined> = {
  float32: 'float32',
  mixed_bfloat16: 'float32',
  mixed_float16: 'float32',
  bfloat16: 'bfloat16',
  float16: 'float16',
};

/**
 * The dtype policy of a layer in files: `wanted`, or the layer's own.
 *
 * @throws ValueError if that policy stores integers.
 */
export function policyInFiles(owner: string, policy: string, wanted: string | undefined): string {
  const chosen = wanted ?? policy;
  if (VARIABLE_DTYPES[chosen]) return chosen;
  throw new ValueError(
    `Expected weights to save as floats: writing quantized weights in Keras' format is not supported. ${owner} ` +
      `stores its weights as ${chosen}. Pass {dtype: "bfloat16"} or {dtype: "float32"} to write their current ` +
      `values, or keep ${chosen} by saving with tfjs' \`save\`.`,
  );
}

/**
 * The same for a layer of a vision encoder. If its own dtype is a floating-point type, that is kept and `wanted` is
 * ignored.
 */
export function visionPolicyInFiles(owner: string, policy: string, wanted: string | undefined): string {
  return policyInFiles(owner, policy, VARIABLE_DTYPES[policy] ? undefined : wanted);
}

const VISION = /(^|\/)gemma3_vision_encoder\//;

/**
 * All variables of a model that are saved, in the order in which Keras saves its layers.
 *
 * @param wanted the dtype to save in. Defaults to the dtype of each layer.
 * @param open opens the values of a weight. Defaults to the weight's own values.
 * @param skip a model inside it whose layers are left out.
 */
export function savedWeights(
  model: tf.LayersModel,
  wanted: string | undefined,
  open: (weight: AnyWeight, path: string) => OpenValues = weightStream,
  skip?: tf.LayersModel,
): SavedWeights {
  const owner = `Model "${model.name}"`;
  const groups: SavedGroup[] = [];
  const variables: SavedVariable[] = [];
  const dtypeOf = (path: string, {dtypePolicy: {name}}: Layer) =>
    VARIABLE_DTYPES[(VISION.test(path) ? visionPolicyInFiles : policyInFiles)(owner, name, wanted)]!;
  for (const [path, nested] of kerasModels(model, skip)) groups.push({path: `${path}vars`, layerName: nested.name});
  for (const [path, layer] of kerasLayers(model, 'saved', '', skip)) {
    const group = `${path}vars`;
    groups.push({path: group, layerName: layer.name});
    layer.savedWeights.forEach((weight, i) => {
      const name = String(i);
      const shape = weight.shape;
      const values = () => open(weight, `${group}/${name}`);
      const merged = () => mergedValues(layer, weight, values());
      variables.push({group, name, weight, shape, dtype: dtypeOf(path, layer), open: merged});
    });
  }
  return {groups, variables};
}

/** The values of a kernel with its LoRA merged, as Keras saves them. */
function mergedValues(layer: Layer, weight: AnyWeight, values: OpenValues): OpenValues {
  const adapted = layer instanceof LoraLayer && layer.loraEnabled && weight === layer.adapted;
  return adapted ? new MergedStream(values, () => layer.readAdapter()) : values;
}

/** Bytes of a variable in a file. */
export const storedBytes = ({shape, dtype}: Pick<SavedVariable, 'shape' | 'dtype'>): number =>
  sizeOf(shape) * (dtype === 'float32' ? 4 : 2);

const bytesOf = ({buffer, byteOffset, byteLength}: Float32Array | Uint16Array) =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);

/** @throws ValueError on values that are too large for float16. */
function checkRange(values: Float32Array, halves: Uint16Array): void {
  const place = values.findIndex((value, i) => (halves[i]! & 0x7fff) === 0x7c00 && Number.isFinite(value));
  if (place < 0) return;
  throw new ValueError(
    `Expected weights that float16 can hold, up to 65504. Received: ${values[place]}. Save them as bfloat16 or ` +
      'float32.',
  );
}

/** The values of a stream in a dtype, as little-endian bytes. The buffer of each piece is reused for the next. */
export async function* storedPieces(values: OpenValues, dtype: StoredDtype): AsyncGenerator<Uint8Array> {
  const size = sizeOf(values.shape);
  const largest = Math.min(size, MEMORY_PIECE);
  const floats = new Float32Array(dtype === 'bfloat16' ? 0 : largest);
  const halves = new Uint16Array(dtype === 'float16' ? largest : 0);
  try {
    for (let start = 0; start < size; start += MEMORY_PIECE) {
      const count = Math.min(MEMORY_PIECE, size - start);
      if (dtype === 'bfloat16') {
        yield bytesOf(await values.readBfloat16(start, count));
        continue;
      }
      const part = floats.subarray(0, count);
      await values.readFloat32(start, part);
      if (dtype === 'float16') {
        float32ToFloat16(part, halves.subarray(0, count));
        checkRange(part, halves);
        yield bytesOf(halves.subarray(0, count));
      } else {
        yield bytesOf(part);
      }
    }
  } finally {
    values.dispose?.();
  }
}

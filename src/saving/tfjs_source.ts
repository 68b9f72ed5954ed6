/** Weights in the format of tfjs: `model.json` with a manifest, and shards that hold the values one after another. */
import {ValueError} from '../errors';
import {type ByteSource, type PresetSource, readAll} from '../hub/preset_source';
import {type PackedFormat} from '../weights/dtype';
import {type Hdf5Dataset} from './hdf5';
import {isObject, type Json} from './keras_config';
import {type StoredVariable} from './preset_weights';

export const TFJS_FILE = 'model.json';

/** How a packed weight rests in a file. */
export interface PackedEntry {
  readonly format: PackedFormat;
  /** Name of the physical order, "logical" for bfloat16 values one after another. */
  readonly order: string;
  /** Of the int32 tensor that tfjs sees. */
  readonly physicalShape: readonly number[];
}

/**
 * An entry of a manifest. tfjs knows neither bfloat16 nor int8 nor int4: it sees an int32 tensor, and weights take the
 * bits as they are. What it does not know is under `packed`.
 */
export interface ManifestEntry {
  name: string;
  /** Of the tensor that tfjs sees. */
  shape: number[];
  dtype: 'float32' | 'int32';
  packed?: {format: PackedFormat; order: string; shape: number[]};
}

/** Several files that follow each other. */
class Concatenated {
  private readonly starts: number[] = [];
  readonly size: number;
  constructor(private readonly files: readonly ByteSource[]) {
    let size = 0;
    for (const file of files) {
      this.starts.push(size);
      size += file.size;
    }
    this.size = size;
  }

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    for (const [i, file] of this.files.entries()) {
      const from = Math.max(0, offset - this.starts[i]!);
      const to = Math.min(file.size, offset + target.length - this.starts[i]!);
      if (from >= to) continue;
      const at = this.starts[i]! + from - offset;
      await file.readInto(from, target.subarray(at, at + to - from));
    }
  }
}

function isEntry(value: Json): boolean {
  if (!isObject(value) || typeof value.name !== 'string' || !Array.isArray(value.shape)) return false;
  return (value.dtype === 'float32' || value.dtype === 'int32') && value.quantization === undefined;
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/**
 * The weights of a folder of tfjs, by their names. Opens all files.
 *
 * @throws ValueError if `model.json` has no manifest that can be read, or files are shorter than it says.
 */
export async function openTfjsVariables(
  source: PresetSource,
  opened: {close(): Promise<void>}[],
): Promise<Map<string, StoredVariable>> {
  const variables = new Map<string, StoredVariable>();
  for (const {paths, weights} of parseManifest(source.name, await readAll(source, TFJS_FILE))) {
    const files: ByteSource[] = [];
    for (const path of paths) {
      const file = await source.open(path);
      opened.push(file);
      files.push(file);
    }
    const bytes = new Concatenated(files);
    let at = 0;
    for (const {name, shape, packed} of weights) {
      const offset = at;
      // A word of four bytes, whatever it holds.
      at += 4 * size(shape);
      const logical = packed?.shape ?? shape;
      const halves = packed?.format === 'bfloat16';
      const dataset: Hdf5Dataset = {
        path: name,
        shape: logical,
        dtype: packed ? (halves ? 'bfloat16' : 'int32') : 'float32',
        itemSize: halves ? 2 : 4,
        byteLength: halves ? 2 * size(logical) : 4 * size(shape),
        readInto: (start, target) => bytes.readInto(offset + start, target),
      };
      const file = paths.join(', ').replace(/^([^,]*), .*, /, '$1 … ');
      variables.set(name, {
        dataset,
        file,
        ...(packed && !halves && {packed: {format: packed.format, order: packed.order, physicalShape: shape}}),
      });
    }
    if (at !== bytes.size) {
      throw new ValueError(
        `Expected ${at} bytes of weights in ${paths.join(', ')} of "${source.name}". Received: ${bytes.size}. ` +
          'Convert or fetch the preset again.',
      );
    }
  }
  return variables;
}

function parseManifest(name: string, bytes: Uint8Array): {paths: string[]; weights: ManifestEntry[]}[] {
  let parsed: Json;
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes)) as Json;
  } catch (error) {
    throw new ValueError(`Expected JSON in "${TFJS_FILE}" of "${name}": ${(error as Error).message}.`);
  }
  const groups = isObject(parsed) ? parsed.weightsManifest : undefined;
  const readable =
    Array.isArray(groups) &&
    groups.every(
      group =>
        isObject(group) &&
        Array.isArray(group.paths) &&
        group.paths.every(path => typeof path === 'string') &&
        Array.isArray(group.weights) &&
        group.weights.every(isEntry),
    );
  if (!readable) {
    throw new ValueError(
      `Expected a weightsManifest of float32 and int32 weights in "${TFJS_FILE}" of "${name}", as "gemma3 convert" and ` +
        '`save` write it.',
    );
  }
  return groups as unknown as {paths: string[]; weights: ManifestEntry[]}[];
}

/** The manifest of a tfjs model: its weights, and where the shards hold them. */
import {type BytePlace, type ByteSource, type PresetSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {isObject, type Json, readJson} from '../../base/json';
import {isSafePath} from '../../base/safe_path';
import {sizeOf} from '../../base/shapes';
import {type PackedFormat} from '../../weights/dtype';

export const TFJS_FILE = 'model.json';

/**
 * An entry of a manifest. tfjs does not know bfloat16, int8 and int4. It sees an int32 tensor with the bits of the
 * weight, and `packed` says what they mean.
 */
export interface ManifestEntry {
  name: string;
  /** Shape of the tensor that tfjs sees. */
  shape: number[];
  dtype: 'float32' | 'int32';
  packed?: {format: PackedFormat; order: string; shape: number[]};
}

/** Size of an entry in bytes. Both dtypes have four bytes per value. */
export const entryBytes = ({shape}: ManifestEntry): number => 4 * sizeOf(shape);

/** Several files, read as if they were one. */
export class Concatenated {
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

  /** Where the bytes from `start` to `end - 1` are. */
  places(start: number, end: number): BytePlace[] {
    return this.files.flatMap((source, i) => {
      const first = this.starts[i]!;
      const place = {source, start: Math.max(0, start - first), end: Math.min(source.size, end - first)};
      return place.start < place.end ? [place] : [];
    });
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

const isShape = (value: Json | undefined) =>
  Array.isArray(value) && value.every(size => Number.isSafeInteger(size) && (size as number) >= 0);

function isEntry(value: Json): boolean {
  if (!isObject(value) || typeof value.name !== 'string' || !isShape(value.shape)) return false;
  const {packed} = value;
  const isPacked =
    isObject(packed) &&
    ['bfloat16', 'int8', 'int4'].some(format => packed.format === format) &&
    typeof packed.order === 'string' &&
    isShape(packed.shape);
  if (packed !== undefined && !isPacked) return false;
  return (value.dtype === 'float32' || value.dtype === 'int32') && value.quantization === undefined;
}

/** @throws ValueError unless `model.json` has a manifest of weights that can be read. */
export async function readManifest(source: PresetSource): Promise<{paths: string[]; weights: ManifestEntry[]}[]> {
  const model = await readJson(source, TFJS_FILE);
  const groups = isObject(model) ? model.weightsManifest : undefined;
  const readable =
    Array.isArray(groups) &&
    groups.every(
      group =>
        isObject(group) &&
        Array.isArray(group.paths) &&
        // Only files of the folder itself: the names come from a file.
        group.paths.every(path => typeof path === 'string' && isSafePath(path)) &&
        Array.isArray(group.weights) &&
        group.weights.every(isEntry),
    );
  if (!readable) {
    throw new ValueError(
      `Expected a weightsManifest of float32 and int32 weights, in files of this folder, in "${TFJS_FILE}" of ` +
        `"${source.name}", as "gemma3 convert" and \`save\` write it.`,
    );
  }
  return groups as unknown as {paths: string[]; weights: ManifestEntry[]}[];
}

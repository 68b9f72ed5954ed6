import {ValueError} from '../../base/errors';
import {type ByteSource} from '../../base/byte_source';
import {type PackedFormat} from '../../weights/dtype';
import {isObject, type Json} from '../../base/json';

export const TFJS_FILE = 'model.json';

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

export function parseManifest(name: string, bytes: Uint8Array): {paths: string[]; weights: ManifestEntry[]}[] {
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

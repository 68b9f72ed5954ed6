/** The files of test/fixtures/keras_files, and what Keras computes with them. */
import {mkdirSync, mkdtempSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {dirname, join} from 'node:path';
import {gunzipSync} from 'node:zlib';
import {MemorySource, type PresetSource, readAll} from '../../src/base/byte_source';
import {MemoryPreset} from '../../src/files/memory';
import {ZipFile} from '../../src/formats/zip';
import {fixtureBytes, fixtureJson} from './fixtures';

export interface KerasCase {
  output?: number[];
  logits?: number[];
  /** A prompt and its text, greedily. */
  generated?: [string, string];
  /** A text and its embedding. */
  encoded?: [string, number[]];
  /** Weights by path, float32 in base64. */
  values: Record<string, string>;
}

export interface KerasExpected {
  inputs: Record<'text' | 'vision', Record<string, unknown[]>>;
  cases: Record<string, KerasCase>;
}

export const kerasExpected = (): KerasExpected => fixtureJson<KerasExpected>('keras_files/expected.json');

/** A `.keras` or `.weights.h5` file. */
export const kerasFile = (name: string): Uint8Array => gunzipSync(fixtureBytes(`keras_files/${name}.gz`));

/** The files of an archive as a preset in memory. */
export async function unzipped(bytes: Uint8Array, name = 'preset'): Promise<MemoryPreset> {
  const zip = await ZipFile.open(new MemorySource(name, bytes));
  const files: PresetSource = {name, has: async path => zip.has(path), open: path => zip.open(path)};
  return new MemoryPreset(
    await Promise.all(zip.names.map(async path => [path, await readAll(files, path)] as const)),
    name,
  );
}

/** A preset that Keras quantized. */
export const quantizedPreset = (name: string): Promise<MemoryPreset> =>
  unzipped(fixtureBytes(`keras_files/${name}.zip`), name);

/** Writes files into a new temporary folder, and returns its path. */
export function temporaryFolder(files: Iterable<readonly [string, Uint8Array]>): string {
  const folder = mkdtempSync(join(tmpdir(), 'gemma3-keras-'));
  for (const [path, bytes] of files) {
    mkdirSync(dirname(join(folder, path)), {recursive: true});
    writeFileSync(join(folder, path), bytes);
  }
  return folder;
}

/** float32 values from base64. */
export function floatsOf(text: string): Float32Array {
  const bytes = Uint8Array.from(Buffer.from(text, 'base64'));
  return new Float32Array(bytes.buffer);
}

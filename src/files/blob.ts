/** Files that the user chose in a browser, with an `<input webkitdirectory>` or by dropping them on the page. */
import {type ByteSource, type PresetSource, truncated} from '../base/byte_source';
import {ValueError} from '../base/errors';

export class BlobFile implements ByteSource {
  constructor(
    readonly name: string,
    private readonly blob: Blob,
  ) {}
  get size(): number {
    return this.blob.size;
  }
  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset + target.length > this.size) {
      throw truncated(this, offset + target.length);
    }
    target.set(new Uint8Array(await this.blob.slice(offset, offset + target.length).arrayBuffer()));
  }
  async close(): Promise<void> {}
}

/**
 * A preset of browser files, keyed by their paths inside the preset (`config.json`, `assets/tokenizer/vocabulary.spm`).
 */
export class BlobPreset implements PresetSource {
  constructor(
    private readonly files: Record<string, Blob>,
    readonly name = 'files',
  ) {}
  async has(path: string): Promise<boolean> {
    return Object.hasOwn(this.files, path);
  }
  async open(path: string): Promise<ByteSource> {
    const blob = this.files[path];
    if (!blob) {
      throw new ValueError(`Expected file "${path}" in the preset. Received: ${Object.keys(this.files).join(', ')}.`);
    }
    return new BlobFile(path, blob);
  }
}

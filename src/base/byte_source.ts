/** Where the files of a preset are read from: a folder, a set of browser files, the package itself. */

/** One file, read by byte ranges: a weights file is never held whole. */
export interface ByteSource {
  /** What error messages call it: a path or an address. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Fills `target` with the bytes from `offset` on.
   *
   * @throws if the file ends before `target` is full.
   */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** The files of one preset, by their paths inside it (`config.json`, `assets/tokenizer/vocabulary.spm`). */
export interface PresetSource {
  /** What error messages call it. */
  readonly name: string;
  has(path: string): Promise<boolean>;
  /** @throws if there is no such file, naming it and the preset. */
  open(path: string): Promise<ByteSource>;
}

/** All bytes of a small file. */
export async function readAll(source: PresetSource, path: string): Promise<Uint8Array> {
  const file = await source.open(path);
  try {
    const bytes = new Uint8Array(file.size);
    await file.readInto(0, bytes);
    return bytes;
  } finally {
    await file.close();
  }
}

/** A byte source over memory: small files, tests, browser uploads that were read already. */
export class MemorySource implements ByteSource {
  constructor(
    readonly name: string,
    private readonly bytes: Uint8Array,
  ) {}
  get size(): number {
    return this.bytes.length;
  }
  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset < 0 || offset + target.length > this.bytes.length) {
      throw new Error(
        `"${this.name}" is shorter than its contents say: expected at least ${offset + target.length} bytes. ` +
          `Received: ${this.bytes.length} bytes. The file is truncated; fetch it again.`,
      );
    }
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
  async close(): Promise<void> {}
}

/** Sources of files: a folder, a set of browser files, a server, memory. */

/** One file, read by byte ranges, so that memory never holds a whole weights file. */
export interface ByteSource {
  /** Its name in error messages: a path or an address. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Fills `target` with the bytes from `offset` on.
   *
   * @throws Error if the file ends before `target` is full.
   */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** The files of one preset, by path inside the preset (`config.json`, `assets/tokenizer/vocabulary.spm`). */
export interface PresetSource {
  /** Its name in error messages. */
  readonly name: string;
  has(path: string): Promise<boolean>;
  /** @throws ValueError if there is no such file, naming it and the preset. */
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

/** The error for a file that ends before byte `end`, which its contents should reach. */
export const truncated = ({name, size}: {name: string; size: number}, end: number): Error =>
  new Error(`"${name}" is truncated: expected at least ${end} bytes. Received: ${size} bytes. Fetch the file again.`);

/** Bytes in memory: small files, tests, browser uploads that have already been read. */
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
      throw truncated(this, offset + target.length);
    }
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
  async close(): Promise<void> {}
}

/** Presets and files in memory, for saving, loading, or sending elsewhere. */
import {type ByteSink, type PresetSink} from '../base/byte_sink';
import {type ByteSource, MemorySource, type PresetSource} from '../base/byte_source';
import {concatBytes} from '../base/concat_bytes';
import {ValueError} from '../base/errors';

class MemorySink implements ByteSink {
  private readonly pieces: Uint8Array[] = [];
  constructor(
    readonly name: string,
    private readonly done: (bytes: Uint8Array) => void,
  ) {}
  async write(bytes: Uint8Array): Promise<void> {
    this.pieces.push(bytes.slice());
  }
  async close(): Promise<void> {
    this.done(concatBytes(this.pieces));
  }
}

/** A preset in memory that can be written and read: `await model.saveToPreset(preset)`. */
export class MemoryPreset implements PresetSource, PresetSink {
  /** The committed files, by path. */
  readonly files: Map<string, Uint8Array>;
  private readonly written = new Map<string, Uint8Array>();

  constructor(
    files: Iterable<readonly [string, Uint8Array]> = [],
    readonly name = 'memory',
  ) {
    this.files = new Map(files);
  }

  async has(path: string): Promise<boolean> {
    return this.files.has(path);
  }

  async open(path: string): Promise<ByteSource> {
    const bytes = this.files.get(path);
    if (!bytes) {
      const existing = [...this.files.keys()].join(', ') || 'none';
      throw new ValueError(`Expected file "${path}" in preset "${this.name}". Received these files: ${existing}.`);
    }
    return new MemorySource(path, bytes);
  }

  async list(): Promise<string[]> {
    return [...this.files.keys()].filter(path => !path.includes('/'));
  }

  async create(path: string): Promise<ByteSink> {
    return new MemorySink(path, bytes => this.written.set(path, bytes));
  }

  async commit(obsolete: (path: string) => boolean): Promise<void> {
    for (const path of this.files.keys()) if (obsolete(path)) this.files.delete(path);
    for (const [path, bytes] of this.written) this.files.set(path, bytes);
    this.written.clear();
  }

  async abort(): Promise<void> {
    this.written.clear();
  }
}

/** A file in memory, for writing, reading, or offering as a download. */
export class MemoryFile implements ByteSink, ByteSource {
  private pieces: Uint8Array[] = [];
  constructor(readonly name: string) {}

  /** All bytes written so far. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return concatBytes(this.pieces);
  }
  get size(): number {
    return this.pieces.reduce((sum, {length}) => sum + length, 0);
  }
  async write(bytes: Uint8Array): Promise<void> {
    this.pieces.push(bytes.slice());
  }
  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (this.pieces.length > 1) this.pieces = [this.bytes];
    await new MemorySource(this.name, this.pieces[0] ?? new Uint8Array(0)).readInto(offset, target);
  }
  async close(): Promise<void> {}
}

/** Single files: where a user wants one read from or written to. */
import {fileSink, openFile} from '#platform';
import {show, ValueError} from '../errors';
import {BlobFile} from './blob_source';
import {HttpPreset} from './http_source';
import {type ByteSink} from './preset_sink';
import {type ByteSource, MemorySource} from './preset_source';

/** A path (Node), a file of the browser that can be written, or anything that takes bytes, such as a {@link MemoryFile}. */
export type FileTarget = string | FileSystemFileHandle | ByteSink;

/** A path (Node), an http(s) address, bytes, a file of the browser, or anything that gives bytes. */
export type FileSource = string | Uint8Array | ArrayBuffer | Blob | FileSystemFileHandle | ByteSource;

/** A file that is written aside and comes into place when it is closed. */
export interface FileSink extends ByteSink {
  /** Gives up: what was there stays. */
  abort(): Promise<void>;
}

/** A file in memory: to write into, to read again, to offer for download. */
export class MemoryFile implements ByteSink, ByteSource {
  private pieces: Uint8Array[] = [];
  constructor(readonly name: string) {}

  /** All that was written. */
  get bytes(): Uint8Array<ArrayBuffer> {
    const whole = new Uint8Array(this.size);
    let at = 0;
    for (const piece of this.pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
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

const isHandle = (value: object): value is FileSystemFileHandle => (value as {kind?: unknown}).kind === 'file';

/** What errors and checks of endings call it; undefined for bytes and files without a name. */
export function fileName(file: FileTarget | FileSource): string | undefined {
  if (typeof file === 'string') return file;
  const name = (file as {name?: unknown} | null)?.name;
  return typeof name === 'string' && name !== '' ? name : undefined;
}

/** @throws ValueError if it is none. */
export async function openFileTarget(target: FileTarget): Promise<FileSink> {
  if (typeof target === 'string' && target !== '') return fileSink(target);
  if (typeof target === 'object' && target !== null) {
    if (isHandle(target)) {
      const stream = await target.createWritable();
      return {
        name: target.name,
        write: bytes => stream.write(bytes as Uint8Array<ArrayBuffer>),
        close: () => stream.close(),
        abort: () => stream.abort(),
      };
    }
    if (typeof target.write === 'function' && typeof target.close === 'function') {
      const abort = async () => {};
      return {name: target.name, write: bytes => target.write(bytes), close: () => target.close(), abort};
    }
  }
  throw new ValueError(
    `Expected where to save to: the path of a file, a FileSystemFileHandle or a ByteSink. Received: ${show(target)}.`,
  );
}

/** @throws ValueError if there is no such file, or it is none. */
export async function openFileSource(source: FileSource): Promise<ByteSource> {
  if (typeof source === 'string' && source !== '') {
    if (!/^https?:\/\//.test(source)) return openFile(source);
    const cut = source.lastIndexOf('/');
    return new HttpPreset(source.slice(0, cut)).open(source.slice(cut + 1));
  }
  if (source instanceof Uint8Array) return new MemorySource('bytes', source);
  if (source instanceof ArrayBuffer) return new MemorySource('bytes', new Uint8Array(source));
  if (source instanceof Blob) return new BlobFile(fileName(source) ?? 'blob', source);
  if (typeof source === 'object' && source !== null) {
    if (isHandle(source)) return new BlobFile(source.name, await source.getFile());
    if (typeof source.readInto === 'function') return source;
  }
  throw new ValueError(
    'Expected what to load from: the path or address of a file, bytes, a Blob, a FileSystemFileHandle or a ByteSource. ' +
      `Received: ${show(source)}.`,
  );
}

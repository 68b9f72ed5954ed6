/** Opens single files in every form that users pass: paths, addresses, handles, bytes, sinks and sources. */
import {fileSink, openFile} from '#platform/files';
import {type ByteSink, type FileSink} from '../base/byte_sink';
import {type ByteSource, MemorySource} from '../base/byte_source';
import {describeValue, ValueError} from '../base/errors';
import {BlobFile} from './blob';
import {HttpPreset} from './http';

/** A path (Node), a browser's file handle, or any {@link ByteSink}, such as a {@link MemoryFile}. */
export type FileTarget = string | FileSystemFileHandle | ByteSink;

/** A path (Node), an http(s) address, bytes, a browser's `Blob` or file handle, or any {@link ByteSource}. */
export type FileSource = string | Uint8Array | ArrayBuffer | Blob | FileSystemFileHandle | ByteSource;

const isHandle = (value: object): value is FileSystemFileHandle => (value as {kind?: unknown}).kind === 'file';

/** The name for errors and for checks of the file extension; undefined for bytes and files without a name. */
export function fileName(file: FileTarget | FileSource): string | undefined {
  if (typeof file === 'string') return file;
  const name = (file as {name?: unknown} | null)?.name;
  return typeof name === 'string' && name !== '' ? name : undefined;
}

/**
 * Opens a file for writing.
 *
 * @throws ValueError if the target is not a {@link FileTarget}, or cannot be written.
 */
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
    `Expected a file to save to: a path, a FileSystemFileHandle or a ByteSink. Received: ${describeValue(target)}.`,
  );
}

/**
 * Opens a file for reading.
 *
 * @throws ValueError if the source is not a {@link FileSource}, or there is no such file.
 */
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
    'Expected a file to load from: a path or address, bytes, a Blob, a FileSystemFileHandle or a ByteSource. ' +
      `Received: ${describeValue(source)}.`,
  );
}

/** Opens single files in every form that users pass: paths, addresses, handles, bytes, sinks and sources. */
import {fileSink, openFile} from '#platform/files';
import {type ByteSink, type FileSink} from '../base/byte_sink';
import {type ByteSource, MemorySource} from '../base/byte_source';
import {describeValue, ValueError} from '../base/errors';
import {BlobFile} from './blob';
import {openHttpFile} from './http';
import {checkFetched, type HttpOptions} from './http_client';
import {httpAddress, isHttp, parseAddress} from './http_address';
import {refuseAddress} from './refuse_address';

/** A path or `file:` address (Node), a browser's file handle, or any {@link ByteSink}, such as a {@link MemoryFile}. */
export type FileTarget = string | URL | FileSystemFileHandle | ByteSink;

/** A path or `file:` address (Node), an http(s) address, bytes, a browser's `Blob` or file handle, or any {@link ByteSource}. */
export type FileSource = string | URL | Uint8Array | ArrayBuffer | Blob | FileSystemFileHandle | ByteSource;

const isHandle = (value: object): value is FileSystemFileHandle => (value as {kind?: unknown}).kind === 'file';

/** Whether a value has one of the forms of a {@link FileSource}. */
export function isFileSource(value: unknown): value is FileSource {
  if (typeof value === 'string' || value instanceof Uint8Array || value instanceof ArrayBuffer) return true;
  if (typeof value !== 'object' || value === null) return false;
  if (value instanceof URL || value instanceof Blob || isHandle(value)) return true;
  return typeof (value as Partial<ByteSource>).readInto === 'function';
}

/** The name for errors and for checks of the file extension; undefined for bytes and files without a name. */
export function fileName(file: FileTarget | FileSource): string | undefined {
  if (file instanceof URL) return fileName(file.href);
  // A token or a version after the name is not part of its ending.
  if (typeof file === 'string') return isHttp(file) ? parseAddress(file).name : file;
  const name = (file as {name?: unknown} | null)?.name;
  return typeof name === 'string' && name !== '' ? name : undefined;
}

/**
 * Opens a file for writing.
 *
 * @throws ValueError if the target is not a {@link FileTarget}, or cannot be written.
 */
export async function openFileTarget(target: FileTarget): Promise<FileSink> {
  if (target instanceof URL) return openFileTarget(target.href);
  if (typeof target === 'string' && target !== '') {
    refuseAddress(target, 'file');
    return fileSink(target);
  }
  if (typeof target === 'object' && target !== null) {
    if (isHandle(target)) {
      const {writerOf} = await import('../base/handle_writer');
      return {name: target.name, ...(await writerOf(target))};
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
 * @param options how to request it, if it is at an http(s) address.
 * @throws ValueError if the source is not a {@link FileSource}, or there is no such file.
 */
export async function openFileSource(source: FileSource, options: HttpOptions = {}): Promise<ByteSource> {
  if (source instanceof URL) return openFileSource(source.href, options);
  const address = typeof source === 'string' && source !== '' ? httpAddress(source) : undefined;
  if (address !== undefined) return openHttpFile(address, options);
  checkFetched({name: fileName(source) ?? 'bytes'}, options, 'a file');
  if (typeof source === 'string' && source !== '') return openFile(source);
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

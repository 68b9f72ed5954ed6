/** Sources that a Worker can receive: addresses, names, files that the user chose, and directory handles. */
import {isPlain} from './arguments';

/**
 * The source of a model in a Worker: a name (`gemma3_tiny`, `hf://…`, `kaggle://…`), the address of a folder or file, a
 * `File` (.gguf, .keras), the files of a folder as an `<input webkitdirectory>` has them or as `Blob`s by path, or a
 * directory handle, such as one from the origin's private file system. In Node also a path.
 */
export type WorkerPreset =
  string | URL | Blob | FileList | readonly File[] | Readonly<Record<string, Blob>> | FileSystemDirectoryHandle;

/** A file: an address, bytes, a `Blob`, or a file handle. In Node also a path. */
export type WorkerFile = string | URL | Uint8Array | ArrayBuffer | Blob | FileSystemFileHandle;

/** A preset as a message. */
export type PresetMessage =
  | string
  | Blob
  | FileSystemDirectoryHandle
  | {readonly list: readonly {readonly path: string; readonly file: Blob}[]}
  | {readonly files: Readonly<Record<string, Blob>>};

/**
 * Resolves an address relative to the page: in the Worker it would be relative to the script. Anything else is
 * unchanged.
 */
export function addressOf<T>(source: T): string | Exclude<T, string | URL> {
  if (source instanceof URL) return source.href;
  if (typeof source !== 'string') return source as Exclude<T, string | URL>;
  const isRelative = /^\.{0,2}\//.test(source) && typeof document !== 'undefined';
  return isRelative ? new URL(source, document.baseURI).href : source;
}

const isList = (source: object): source is FileList | readonly File[] =>
  Array.isArray(source) || (typeof FileList !== 'undefined' && source instanceof FileList);

export function presetMessage(source: WorkerPreset): PresetMessage {
  if (typeof source === 'string' || source instanceof URL) return addressOf(source);
  // A copy of a `File` does not know the folder that it was chosen from.
  if (isList(source)) return {list: Array.from(source, file => ({path: file.webkitRelativePath || file.name, file}))};
  return isPlain(source) ? {files: source as Record<string, Blob>} : (source as Blob | FileSystemDirectoryHandle);
}

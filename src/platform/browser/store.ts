/** Where downloads are stored: the origin's private file system. */
import {type ByteSource, type PresetSource, truncated} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {isPresetFile, NamedFile} from '../../base/named_file';
import {type DigestAlgorithm, type Lock, type Store, type StoreEntry} from '../contract';
import {
  blobOf,
  digestOfBlob,
  isUnfinished,
  noteAt,
  notedName,
  notePath,
  openPartial,
  PARTS,
  removePartial,
} from './partial_file';
import {fileAt, folderAt, listAt, removeAt, textAt, writeTextAt} from './private_files';

export {openPartial, removePartial};

/** False in pages that are not served over https or from this computer, and in old browsers. */
export const canStore = (): boolean => typeof navigator !== 'undefined' && Boolean(navigator.storage?.getDirectory);

/** Pages have no environment. */
export const environment = (_name: string): string | undefined => undefined;

export const homeFolder = (): string => '';

export const readText = (path: string): Promise<string | undefined> => textAt(path);

export const writeText = (path: string, text: string): Promise<void> => writeTextAt(path, text);

export async function fileSize(path: string): Promise<number | undefined> {
  const file = await fileAt(path);
  return file ? (await file.getFile()).size : (await noteAt(path))?.size;
}

export async function entries(path: string): Promise<StoreEntry[]> {
  const found = await listAt(path);
  // Parts of downloads are not listed as files.
  return found
    .filter(({name, isFolder}) => !(isFolder && name.endsWith(PARTS)))
    .map(({name, isFolder}) => ({name: (isFolder ? undefined : notedName(name)) ?? name, isFolder}));
}

export async function link(file: string, path: string): Promise<void> {
  const note = await textAt(notePath(file));
  if (note === undefined) throw new Error(`Expected a downloaded file at ${file}. Received: nothing there.`);
  await writeTextAt(notePath(path), note);
}

export async function copy(_from: string, to: string): Promise<void> {
  throw new ValueError(`Expected no folder for downloads, since browsers have no paths. Received: "${to}".`);
}

export async function realPath(path: string): Promise<string | undefined> {
  return (await fileAt(path)) ? path : (await noteAt(path))?.path;
}

export async function remove(path: string): Promise<void> {
  const note = await noteAt(path);
  // Several notes may refer to the same bytes. These are removed with the file that was finished first.
  if (note?.path === path) await removeAt(note.folder);
  await removeAt(notePath(path));
  await removeAt(path);
}

export async function removePartials(path: string): Promise<void> {
  for (const {name, isFolder} of await listAt(path)) {
    const place = `${path}/${name}`;
    if (!isFolder) continue;
    if (!name.endsWith(PARTS)) await removePartials(place);
    else if (await isUnfinished(place)) await removeAt(place);
  }
}

export async function removeEmpty(path: string, root: string): Promise<void> {
  for (let folder = path; folder.startsWith(`${root}/`); folder = folder.slice(0, folder.lastIndexOf('/'))) {
    const isThere = await folderAt(folder);
    if (isThere && (await listAt(folder)).length > 0) return;
    try {
      await removeAt(folder, false);
    } catch (error) {
      // An entry was added meanwhile.
      if ((error as {name?: string}).name === 'InvalidModificationError') return;
      throw error;
    }
  }
}

export async function freeBytes(_path: string): Promise<number | undefined> {
  // Safari before version 17 does not report free space.
  const {quota, usage} = (await (navigator.storage as Partial<StorageManager>).estimate?.()) ?? {};
  return quota === undefined ? undefined : quota - (usage ?? 0);
}

const blobAt = async (path: string): Promise<Blob | undefined> => {
  const note = await noteAt(path);
  return note ? blobOf(note) : (await fileAt(path))?.getFile();
};

export async function digestOf(
  path: string,
  algorithm: DigestAlgorithm,
  prefix: Uint8Array,
  signal?: AbortSignal,
): Promise<string> {
  const blob = await blobAt(path);
  if (!blob) throw new Error(`Expected a file at ${path}. Received: nothing there.`);
  return digestOfBlob(blob, algorithm, prefix, signal);
}

/** Other tabs and workers of the origin count as other processes. The browser releases their locks when they end. */
export async function lock(path: string, signal: AbortSignal | undefined, waiting: () => void): Promise<Lock> {
  let release = () => {};
  const held = new Promise<void>(resolve => (release = resolve));
  const lost = new AbortController().signal;
  const take = (options: LockOptions) =>
    new Promise<boolean>((resolve, reject) => {
      navigator.locks
        .request(`tfjs-gemma3:${path}`, options, taken => {
          resolve(taken !== null);
          return taken === null ? undefined : held;
        })
        .catch(reject);
    });
  if (!(await take({ifAvailable: true}))) {
    waiting();
    await take(signal ? {signal} : {});
  }
  return {lost, release: async () => release()};
}

class BlobSource implements ByteSource {
  constructor(
    readonly name: string,
    private readonly blob: Blob,
  ) {}
  get size(): number {
    return this.blob.size;
  }
  async readInto(offset: number, target: Uint8Array): Promise<void> {
    const end = offset + target.length;
    if (end > this.size) throw truncated(this, end);
    target.set(new Uint8Array(await this.blob.slice(offset, end).arrayBuffer()));
  }
  async close(): Promise<void> {}
}

class StoredPreset implements PresetSource {
  constructor(readonly name: string) {}

  async has(path: string): Promise<boolean> {
    return (await fileSize(`${this.name}/${path}`)) !== undefined;
  }

  async open(path: string): Promise<ByteSource> {
    const place = `${this.name}/${path}`;
    const blob = await blobAt(place);
    if (blob) return new BlobSource(place, blob);
    throw new ValueError(`Expected file "${path}" in ${this.name}. Received: a model without it.`);
  }

  /** Names of the files in the folder itself. */
  async list(): Promise<string[]> {
    return (await entries(this.name)).filter(({isFolder}) => !isFolder).map(({name}) => name);
  }
}

export async function openStored(path: string): Promise<PresetSource | undefined> {
  if (await folderAt(path)) return new StoredPreset(path);
  if (!isPresetFile(path) || (await fileSize(path)) === undefined) return undefined;
  const end = path.lastIndexOf('/');
  return new NamedFile(path, path.slice(end + 1), new StoredPreset(path.slice(0, end)));
}

/**
 * Browsers use the proxy of their own settings. Downloads are stored here, and need not be in the browser's own cache
 * as well. In that cache, Chromium also makes one request for an address wait until another one has ended.
 */
export const downloadFetch = async (): Promise<typeof fetch> => (input, init) =>
  // Looked up for each request, since a page may replace it.
  fetch(input, {...init, cache: 'no-store'});

void ({
  canStore,
  environment,
  homeFolder,
  readText,
  writeText,
  fileSize,
  entries,
  link,
  copy,
  realPath,
  remove,
  removePartials,
  removeEmpty,
  freeBytes,
  digestOf,
  openPartial,
  removePartial,
  lock,
  openStored,
  downloadFetch,
} satisfies Store);

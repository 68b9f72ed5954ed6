/** Files by path in the origin's private file system. */
import {writerOf} from '../../base/handle_writer';

type Folder = FileSystemDirectoryHandle;

const missing = (error: unknown) =>
  ['NotFoundError', 'TypeMismatchError'].includes((error as {name?: string}).name ?? '');

const partsOf = (path: string) => path.split('/').filter(part => part !== '');

/** The folder at a path; undefined if there is none and it should not be created. */
export async function folderAt(path: string, create = false): Promise<Folder | undefined> {
  let folder = await navigator.storage.getDirectory();
  for (const part of partsOf(path)) {
    try {
      folder = await folder.getDirectoryHandle(part, {create});
    } catch (error) {
      if (!create && missing(error)) return undefined;
      throw error;
    }
  }
  return folder;
}

/** The folder of a path, and the last part of it. */
async function placeOf(path: string, create: boolean): Promise<[Folder | undefined, string]> {
  const parts = partsOf(path);
  const name = parts.pop() ?? '';
  return [await folderAt(parts.join('/'), create), name];
}

export async function fileAt(path: string, create = false): Promise<FileSystemFileHandle | undefined> {
  const [folder, name] = await placeOf(path, create);
  try {
    return await folder?.getFileHandle(name, {create});
  } catch (error) {
    if (!create && missing(error)) return undefined;
    throw error;
  }
}

export async function textAt(path: string): Promise<string | undefined> {
  return (await (await fileAt(path))?.getFile())?.text();
}

/** Replaces a file. Where the browser can stage it, readers get either the old text or the new one. */
export async function writeTextAt(path: string, text: string): Promise<void> {
  const writer = await writerOf((await fileAt(path, true))!);
  await writer.write(new TextEncoder().encode(text));
  await writer.close();
}

/** Removes a file, or a folder with its contents. */
export async function removeAt(path: string, recursive = true): Promise<void> {
  const [folder, name] = await placeOf(path, false);
  try {
    await folder?.removeEntry(name, {recursive});
  } catch (error) {
    if (!missing(error)) throw error;
  }
}

/** Names and kinds of the entries of a folder. */
export async function listAt(path: string): Promise<{name: string; isFolder: boolean}[]> {
  const found: {name: string; isFolder: boolean}[] = [];
  const folder = (await folderAt(path)) as unknown as {values(): AsyncIterable<FileSystemHandle>} | undefined;
  if (folder) for await (const {name, kind} of folder.values()) found.push({name, isFolder: kind === 'directory'});
  return found.sort((a, b) => (a.name < b.name ? -1 : 1));
}

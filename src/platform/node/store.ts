/** Where downloads are stored: folders on disk, which other tools use as well. */
import {constants as copying} from 'node:fs';
import {
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
  statfs,
  symlink,
  writeFile,
} from 'node:fs/promises';
import {homedir} from 'node:os';
import {basename, dirname, join, relative, resolve} from 'node:path';
import {type PresetSource} from '../../base/byte_source';
import {type DigestAlgorithm, type Store, type StoreEntry} from '../contract';
import {codeOf, unless, writing} from './disk';
import {openFolder} from './files';
import {lock} from './lock';
import {digestOfHandle, openPartial, removePartial} from './partial_file';
import {proxyFetch as downloadFetch} from './proxy';

export {downloadFetch, lock, openPartial, removePartial};

const NOTHING = ['ENOENT', 'ENOTDIR'] as const;

export const canStore = (): boolean => true;

export const environment = (name: string): string | undefined => process.env[name] || undefined;

export const homeFolder = (): string => homedir();

export const readText = (path: string): Promise<string | undefined> =>
  readFile(path, 'utf8').catch(unless(...NOTHING, 'EISDIR'));

let names = 0;

/** A name next to `path` that nobody else uses. */
const temporary = (path: string) => join(dirname(path), `.${basename(path)}.${process.pid}-${names++}.tmp`);

/** Removes what killed processes have left next to `path`. Their numbers are in the names. */
async function removeLeft(path: string): Promise<void> {
  const start = `.${basename(path)}.`;
  for (const name of await readdir(dirname(path))) {
    const id = name.startsWith(start) ? /^(\d+)-\d+\.tmp$/.exec(name.slice(start.length))?.[1] : undefined;
    if (id === undefined || isAlive(Number(id))) continue;
    await rm(join(dirname(path), name), {force: true});
  }
}

function isAlive(id: number): boolean {
  try {
    process.kill(id, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== 'ESRCH';
  }
}

export async function writeText(path: string, text: string): Promise<void> {
  await writing('file', path, async () => {
    await mkdir(dirname(path), {recursive: true});
    const written = temporary(path);
    try {
      await removeLeft(path);
      await writeFile(written, text);
      await rename(written, path);
    } finally {
      await rm(written, {force: true});
    }
  });
}

export async function fileSize(path: string): Promise<number | undefined> {
  const found = await stat(path).catch(unless(...NOTHING));
  return found?.isFile() ? found.size : undefined;
}

export async function entries(path: string): Promise<StoreEntry[]> {
  const names = (await readdir(path).catch(unless(...NOTHING))) ?? [];
  const found = await Promise.all(
    names.map(async name => {
      // Broken links are not listed.
      const target = await stat(join(path, name)).catch(unless(...NOTHING));
      return target && {name, isFolder: target.isDirectory()};
    }),
  );
  return found.filter(entry => entry !== undefined).sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Errors of systems and folders where links cannot be created, as on Windows without developer mode. */
const NO_LINKS = ['EPERM', 'EACCES', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP', 'EINVAL', 'UNKNOWN'];

export async function link(file: string, path: string): Promise<void> {
  await writing('file', path, async () => {
    await mkdir(dirname(path), {recursive: true});
    const given = temporary(path);
    try {
      if (/^(1|on|yes|true)$/i.test(process.env.HF_HUB_DISABLE_SYMLINKS ?? '')) {
        await rename(file, path);
        return;
      }
      await removeLeft(path);
      // Relative, so that the whole cache can be moved.
      await symlink(relative(dirname(path), file), given);
      await rename(given, path);
    } catch (error) {
      if (!NO_LINKS.includes(codeOf(error))) throw error;
      await rm(given, {force: true});
      await rename(file, path);
    }
  });
}

export async function copy(from: string, to: string, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await writing('file', to, async () => {
    await mkdir(dirname(to), {recursive: true});
    const written = temporary(to);
    try {
      await removeLeft(to);
      // File systems that can share blocks between both files do so.
      await copyFile(from, written, copying.COPYFILE_FICLONE);
      signal?.throwIfAborted();
      await rename(written, to);
    } finally {
      await rm(written, {force: true});
    }
  });
}

export const realPath = (path: string): Promise<string | undefined> => realpath(path).catch(unless(...NOTHING));

export async function remove(path: string): Promise<void> {
  await writing('folder', path, () => rm(path, {recursive: true, force: true}));
}

/** Finished files were moved out of it. */
export const removePartials = (path: string): Promise<void> => remove(path);

export async function removeEmpty(path: string, root: string): Promise<void> {
  const top = resolve(root);
  for (let folder = resolve(path); folder !== top && folder.startsWith(top); folder = dirname(folder)) {
    try {
      await rmdir(folder);
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') return;
    }
  }
}

export async function freeBytes(path: string): Promise<number | undefined> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    const found = await statfs(folder).catch(() => undefined);
    if (found) return found.bavail * found.bsize;
    if (folder === dirname(folder)) return undefined;
  }
}

export async function digestOf(
  path: string,
  algorithm: DigestAlgorithm,
  prefix: Uint8Array,
  signal?: AbortSignal,
): Promise<string> {
  const handle = await open(path, 'r');
  try {
    return await digestOfHandle(handle, algorithm, prefix, signal);
  } finally {
    await handle.close();
  }
}

export const openStored = (path: string): Promise<PresetSource | undefined> => openFolder(path);

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

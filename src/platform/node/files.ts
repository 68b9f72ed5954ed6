/** Files on disk. */
import {type FileHandle, open, readdir, stat} from 'node:fs/promises';
import {basename, dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {type ByteSource, type PresetSource, truncated} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {isPresetFile, NamedFile} from '../../base/named_file';
import {type Files} from '../contract';
import {diskError, lookAt, pathOf, unless} from './disk';
import {finishPending, PendingCommit} from './folder_commit';
import {fileSink, folderSink} from './folder_sink';

export {fileSink, folderSink};

export const canReadFolders = true;

class DiskFile implements ByteSource {
  constructor(
    readonly name: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    for (let filled = 0; filled < target.length;) {
      // Node reads at most 2 GiB per call.
      const wanted = Math.min(target.length - filled, 2 ** 30);
      const {bytesRead} = await this.handle.read(target, filled, wanted, offset + filled).catch(unreadable(this.name));
      if (bytesRead === 0) throw truncated(this, offset + target.length);
      filled += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

/** Throws a ValueError for what Node reports about the file at `path`. */
const unreadable =
  (path: string) =>
  (error: unknown): never => {
    throw diskError('a file that can be read', path, error);
  };

const isFile = async (path: string) => (await lookAt(path))?.isFile() ?? false;

class FolderPreset implements PresetSource {
  /** @param pending a save of which not all files are in place. */
  constructor(
    readonly name: string,
    private readonly pending?: PendingCommit,
  ) {}

  async has(path: string): Promise<boolean> {
    for (const place of this.places(path)) if (await isFile(place)) return true;
    return false;
  }

  async open(path: string): Promise<ByteSource> {
    for (const place of this.places(path)) {
      // Another process may move the file between two places.
      const opening = (await isFile(place)) ? open(place, 'r').catch(unless('ENOENT')) : undefined;
      const handle = await opening?.catch(unreadable(place));
      if (handle) return new DiskFile(place, (await handle.stat()).size, handle);
    }
    throw new ValueError(`Expected file "${path}" in preset folder "${this.name}". Received a folder without it.`);
  }

  async list(): Promise<string[]> {
    const entries = await readdir(this.name, {withFileTypes: true}).catch(unreadable(this.name));
    const names: string[] = [];
    for (const entry of entries) {
      // A link may point to a file, as in the caches of other programs.
      if (entry.isFile() || (entry.isSymbolicLink() && (await isFile(join(this.name, entry.name)))))
        names.push(entry.name);
    }
    return names.sort();
  }

  private places(path: string): string[] {
    // Names may come from a file. Paths that lead out of the folder are never files of the preset.
    if (path.split(/[\\/]/).includes('..')) return [];
    return this.pending?.places(path) ?? [join(this.name, path)];
  }
}

export async function openFile(path: string): Promise<ByteSource> {
  const full = pathOf(path);
  const found = await lookAt(full);
  if (!found?.isFile()) {
    const why = found ? 'which is a folder' : 'where no file exists';
    throw new ValueError(`Expected the path of a file. Received: "${path}", ${why}.`);
  }
  return new DiskFile(full, found.size, await open(full, 'r').catch(unreadable(full)));
}

export function splitPath(path: string): {folder: string; name: string} {
  const full = pathOf(path);
  return {folder: dirname(full), name: basename(full)};
}

export async function openFolder(path: string): Promise<PresetSource | undefined> {
  const full = pathOf(path);
  const found = await lookAt(full);
  if (!found) return undefined;
  if (found.isFile() && isPresetFile(full)) return new NamedFile(full, basename(full), new FolderPreset(dirname(full)));
  if (!found.isDirectory()) {
    throw new ValueError(
      `Expected the path of a preset's folder, or of a .gguf or .keras file. Received: "${path}", another file.`,
    );
  }
  // If nothing can be written, the files are read from their current location.
  await finishPending(full).catch(() => {});
  const pending = PendingCommit.find(full).catch((error: unknown) => {
    throw error instanceof ValueError ? error : diskError('a folder that can be read', full, error);
  });
  return new FolderPreset(full, await pending);
}

/**
 * The nearest folder above this file with a package.json. Sources and bundles are at different depths in the package.
 */
async function packageRoot(): Promise<string | undefined> {
  // A bundle in CommonJS format has no such address.
  if (!import.meta.url?.startsWith('file:')) return undefined;
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!(await stat(join(folder, 'package.json')).catch(() => undefined))) {
    if (folder === dirname(folder)) return undefined;
    folder = dirname(folder);
  }
  return folder;
}

export async function packagedPreset(name: string): Promise<string | undefined> {
  const root = await packageRoot();
  const path = root && join(root, 'presets', name);
  return path && (await stat(path).catch(() => undefined))?.isDirectory() ? path : undefined;
}

void ({canReadFolders, openFile, openFolder, fileSink, folderSink, splitPath, packagedPreset} satisfies Files);

/** Files on disk. */
import {type FileHandle, open, stat} from 'node:fs/promises';
import {dirname, join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {type ByteSource, type PresetSource, truncated} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {type Files} from '../contract';
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
      const {bytesRead} = await this.handle.read(target, filled, wanted, offset + filled);
      if (bytesRead === 0) throw truncated(this, offset + target.length);
      filled += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

const isFile = async (path: string) => (await stat(path).catch(() => undefined))?.isFile() ?? false;

const unlessMissing = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== 'ENOENT') throw error;
};

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
      const handle = (await isFile(place)) ? await open(place, 'r').catch(unlessMissing) : undefined;
      if (handle) return new DiskFile(place, (await handle.stat()).size, handle);
    }
    throw new ValueError(`Expected file "${path}" in preset folder "${this.name}". Received a folder without it.`);
  }

  private places(path: string): string[] {
    return this.pending?.places(path) ?? [join(this.name, path)];
  }
}

export async function openFile(path: string): Promise<ByteSource> {
  const full = resolve(path);
  const found = await stat(full).catch(() => undefined);
  if (!found?.isFile()) {
    const why = found ? 'which is a folder' : 'where no file exists';
    throw new ValueError(`Expected the path of a file. Received: "${path}", ${why}.`);
  }
  return new DiskFile(full, found.size, await open(full, 'r'));
}

export async function openFolder(path: string): Promise<PresetSource | undefined> {
  const full = resolve(path.startsWith('file://') ? fileURLToPath(path) : path);
  const found = await stat(full).catch(() => undefined);
  if (!found) return undefined;
  if (!found.isDirectory()) {
    throw new ValueError(`Expected the path of a preset's folder. Received: "${path}", which is a file.`);
  }
  // Where nothing can be written, the files are read where they are.
  await finishPending(full).catch(() => {});
  return new FolderPreset(full, await PendingCommit.find(full));
}

/**
 * The nearest folder above this file with a package.json. Sources and bundles are at different depths in the package.
 */
async function packageRoot(): Promise<string | undefined> {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!(await isFile(join(folder, 'package.json')))) {
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

void ({canReadFolders, openFile, openFolder, fileSink, folderSink, packagedPreset} satisfies Files);

/** Files on disk. */
import {type FileHandle, open, stat} from 'node:fs/promises';
import {dirname, join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {type ByteSource, type PresetSource, truncated} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {type Files} from '../contract';
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

class FolderPreset implements PresetSource {
  constructor(readonly name: string) {}

  async has(path: string): Promise<boolean> {
    return isFile(join(this.name, path));
  }

  async open(path: string): Promise<ByteSource> {
    const full = join(this.name, path);
    if (!(await isFile(full))) {
      throw new ValueError(`Expected file "${path}" in preset folder "${this.name}". Received a folder without it.`);
    }
    const handle = await open(full, 'r');
    return new DiskFile(full, (await handle.stat()).size, handle);
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
  return new FolderPreset(full);
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

/** What only Node can do. Its counterpart for browsers is `browser.ts`; the package's `exports` choose. */
import {type FileHandle, open, stat} from 'node:fs/promises';
import {dirname, join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {ValueError} from '../../base/errors';
import {type ByteSource, type PresetSource} from '../../base/byte_source';

export {fileSink, folderSink} from './folder_sink';

/** Whether a path can lead to a folder. */
export const canReadFolders = true;

class DiskFile implements ByteSource {
  constructor(
    readonly name: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    for (let filled = 0; filled < target.length;) {
      // Node reads at most 2 GiB at once.
      const wanted = Math.min(target.length - filled, 2 ** 30);
      const {bytesRead} = await this.handle.read(target, filled, wanted, offset + filled);
      if (bytesRead === 0) {
        throw new Error(
          `"${this.name}" is shorter than its contents say: expected at least ${offset + target.length} bytes. ` +
            `Received: ${this.size} bytes. The file is truncated; fetch it again.`,
        );
      }
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

/** @throws ValueError if there is no such file. */
export async function openFile(path: string): Promise<ByteSource> {
  const full = resolve(path);
  const found = await stat(full).catch(() => undefined);
  if (!found?.isFile()) {
    const why = found ? 'which is a folder' : 'where there is none';
    throw new ValueError(`Expected the path of a file. Received: "${path}", ${why}.`);
  }
  return new DiskFile(full, found.size, await open(full, 'r'));
}

/** The folder at a path, or undefined if there is none. */
export async function openFolder(path: string): Promise<PresetSource | undefined> {
  const full = resolve(path.startsWith('file://') ? fileURLToPath(path) : path);
  const found = await stat(full).catch(() => undefined);
  if (!found) return undefined;
  if (!found.isDirectory()) {
    throw new ValueError(`Expected the path of a preset's folder. Received: "${path}", which is a file.`);
  }
  return new FolderPreset(full);
}

/** A preset that ships with the package, or undefined. `src/platform` and `dist/node` are equally deep. */
export async function packagedPreset(name: string): Promise<PresetSource | undefined> {
  if (!/^\w+$/.test(name)) return undefined;
  // Here and in dist/node the root of the package is not equally far up.
  for (const up of ['../../..', '../..']) {
    const folder = join(dirname(fileURLToPath(import.meta.url)), up, 'presets', name);
    if ((await stat(folder).catch(() => undefined))?.isDirectory()) return new FolderPreset(folder);
  }
  return undefined;
}

/** Writes to disk: files are staged under temporary names and renamed into place at the end. */
import {randomUUID} from 'node:crypto';
import {type FileHandle, mkdir, open, readdir, rename, rm, stat} from 'node:fs/promises';
import {basename, dirname, join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {type ByteSink, type FileSink, type PresetSink} from '../../base/byte_sink';
import {ValueError} from '../../base/errors';

class DiskSink implements ByteSink {
  constructor(
    readonly name: string,
    private readonly handle: FileHandle,
    private readonly ended: (handle: FileHandle) => void,
  ) {}

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      // Node writes at most 2 GiB per call, and may write fewer bytes than requested.
      const wanted = Math.min(bytes.length - done, 2 ** 30);
      done += (await this.handle.write(bytes, done, wanted)).bytesWritten;
    }
  }

  async close(): Promise<void> {
    this.ended(this.handle);
    // The contents must reach the disk before the rename does.
    await this.handle.sync();
    await this.handle.close();
  }
}

const exists = async (path: string) => (await stat(path).catch(() => undefined)) !== undefined;

/**
 * Stages files in a folder next to the target, on the same disk. A new target is created with a single rename. In an
 * existing target, files are replaced one by one, and the old ones are kept until the last new one is in place. Files
 * that are not part of a preset are not touched.
 */
class FolderSink implements PresetSink {
  private readonly staging: string;
  private readonly written: string[] = [];
  private readonly opened = new Set<FileHandle>();
  /** False while the staging folder holds old files that belong in the target. */
  private restored = true;

  constructor(readonly name: string) {
    this.staging = join(dirname(name), `.${basename(name)}.saving-${randomUUID().slice(0, 8)}`);
  }

  async begin(): Promise<void> {
    await mkdir(this.staging);
  }

  async create(path: string): Promise<ByteSink> {
    const full = join(this.staging, path);
    await mkdir(dirname(full), {recursive: true});
    const handle = await open(full, 'w');
    this.opened.add(handle);
    if (!this.written.includes(path)) this.written.push(path);
    return new DiskSink(join(this.name, path), handle, ended => this.opened.delete(ended));
  }

  async commit(obsolete: (path: string) => boolean): Promise<void> {
    if (!(await exists(this.name))) {
      await rename(this.staging, this.name);
      return;
    }
    const stale = (await readdir(this.name)).filter(path => obsolete(path) && !this.written.includes(path));
    const old = join(this.staging, '.old');
    const undo: (() => Promise<void>)[] = [];
    const move = async (from: string, to: string) => {
      await mkdir(dirname(to), {recursive: true});
      await rename(from, to);
      undo.unshift(() => rename(to, from));
    };
    try {
      for (const path of [...this.written, ...stale]) {
        const full = join(this.name, path);
        if (await exists(full)) await move(full, join(old, path));
        if (!stale.includes(path)) await move(join(this.staging, path), full);
      }
    } catch (error) {
      // If restoring fails as well, `restored` stays false, so that `abort` keeps the old files.
      this.restored = false;
      for (const restore of undo) await restore();
      this.restored = true;
      throw error;
    }
    await rm(this.staging, {recursive: true, force: true});
  }

  async abort(): Promise<void> {
    for (const handle of this.opened) await handle.close();
    this.opened.clear();
    if (!this.restored) return;
    await rm(this.staging, {recursive: true, force: true});
  }
}

/** Like `mkdir` with `recursive`, which never returns for folders that allow no subfolders, such as /proc. */
async function createFolders(path: string): Promise<void> {
  if (await exists(path)) return;
  await createFolders(dirname(path));
  await mkdir(path);
}

export async function folderSink(path: string): Promise<PresetSink> {
  const full = resolve(path.startsWith('file://') ? fileURLToPath(path) : path);
  const found = await stat(full).catch(() => undefined);
  if (found && !found.isDirectory()) {
    throw new ValueError(`Expected the path of a folder to save into. Received: "${path}", which is a file.`);
  }
  // Created immediately, so that an unwritable location is reported before anything is computed.
  const sink = new FolderSink(full);
  try {
    await createFolders(dirname(full));
    await sink.begin();
  } catch (error) {
    throw new ValueError(
      `Expected a folder that can be written. Received: "${path}": ${(error as Error).message}. ` +
        'Choose another location, or change its permissions.',
    );
  }
  return sink;
}

export async function fileSink(path: string): Promise<FileSink> {
  const full = resolve(path);
  if ((await stat(full).catch(() => undefined))?.isDirectory()) {
    throw new ValueError(`Expected the path of a file to save into. Received: "${path}", which is a folder.`);
  }
  const staged = join(dirname(full), `.${basename(full)}.saving-${randomUUID().slice(0, 8)}`);
  const handle = await createFolders(dirname(full))
    .then(() => open(staged, 'w'))
    .catch((error: Error) => {
      throw new ValueError(
        `Expected a file that can be written. Received: "${path}": ${error.message}. ` +
          'Choose another location, or change the permissions of its folder.',
      );
    });
  let closed = false;
  const disk = new DiskSink(full, handle, () => (closed = true));
  return {
    name: full,
    write: bytes => disk.write(bytes),
    async close() {
      await disk.close();
      await rename(staged, full);
    },
    async abort() {
      if (!closed) await handle.close();
      await rm(staged, {force: true});
    },
  };
}

/** A preset folder that is written aside and put in place at the end. */
import {randomUUID} from 'node:crypto';
import {type FileHandle, mkdir, open, readdir, rename, rm, stat} from 'node:fs/promises';
import {basename, dirname, join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {ValueError} from '../../base/errors';
import {type FileSink} from '../../base/byte_sink';
import {type ByteSink, type PresetSink} from '../../base/byte_sink';

class DiskSink implements ByteSink {
  constructor(
    readonly name: string,
    private readonly handle: FileHandle,
    private readonly ended: (handle: FileHandle) => void,
  ) {}

  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length;) {
      // Node writes at most 2 GiB at once, and may write less than it was given.
      const wanted = Math.min(bytes.length - done, 2 ** 30);
      done += (await this.handle.write(bytes, done, wanted)).bytesWritten;
    }
  }

  async close(): Promise<void> {
    this.ended(this.handle);
    // A rename must not come to the disk before what it names.
    await this.handle.sync();
    await this.handle.close();
  }
}

const exists = async (path: string) => (await stat(path).catch(() => undefined)) !== undefined;

/**
 * Files are written into a folder beside the target, on the same disk. A target that was not there comes into being by
 * one rename. In one that was there files are exchanged one by one, old ones being kept aside until the last is in
 * place; files that are no part of a preset stay.
 */
class FolderSink implements PresetSink {
  private readonly staging: string;
  private readonly written: string[] = [];
  private readonly opened = new Set<FileHandle>();
  /** False while old files are aside that belong in the target. */
  private undone = true;

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
      // Should this fail too, what is aside must not be removed: `undone` stays false.
      this.undone = false;
      for (const back of undo) await back();
      this.undone = true;
      throw error;
    }
    await rm(this.staging, {recursive: true, force: true});
  }

  async abort(): Promise<void> {
    for (const handle of this.opened) await handle.close();
    this.opened.clear();
    if (!this.undone) return;
    await rm(this.staging, {recursive: true, force: true});
  }
}

/** As `mkdir` with `recursive`, which never comes back below folders that take none, such as /proc. */
async function makeFolders(path: string): Promise<void> {
  if (await exists(path)) return;
  await makeFolders(dirname(path));
  await mkdir(path);
}

/**
 * A folder to write a preset into; it need not exist yet, nor those it is in.
 *
 * @throws ValueError if there is a file of that name, or nothing can be written there.
 */
export async function folderSink(path: string): Promise<PresetSink> {
  const full = resolve(path.startsWith('file://') ? fileURLToPath(path) : path);
  const found = await stat(full).catch(() => undefined);
  if (found && !found.isDirectory()) {
    throw new ValueError(`Expected the path of a folder to save into. Received: "${path}", which is a file.`);
  }
  // Made at once: what cannot be written to is told before anything is computed.
  const sink = new FolderSink(full);
  try {
    await makeFolders(dirname(full));
    await sink.begin();
  } catch (error) {
    throw new ValueError(
      `Expected a folder that can be written. Received: "${path}": ${(error as Error).message}. Choose another place, or ` +
        'change its permissions.',
    );
  }
  return sink;
}

/**
 * A single file, written beside its place and put there by one rename when it is closed.
 *
 * @throws ValueError if there is a folder of that name, or nothing can be written there.
 */
export async function fileSink(path: string): Promise<FileSink> {
  const full = resolve(path);
  if ((await stat(full).catch(() => undefined))?.isDirectory()) {
    throw new ValueError(`Expected the path of a file to save into. Received: "${path}", which is a folder.`);
  }
  const aside = join(dirname(full), `.${basename(full)}.saving-${randomUUID().slice(0, 8)}`);
  const handle = await makeFolders(dirname(full))
    .then(() => open(aside, 'w'))
    .catch((error: Error) => {
      throw new ValueError(
        `Expected a file that can be written. Received: "${path}": ${error.message}. Choose another place, or change the ` +
          'permissions of its folder.',
      );
    });
  let closed = false;
  const disk = new DiskSink(full, handle, () => (closed = true));
  return {
    name: full,
    write: bytes => disk.write(bytes),
    async close() {
      await disk.close();
      await rename(aside, full);
    },
    async abort() {
      if (!closed) await handle.close();
      await rm(aside, {force: true});
    },
  };
}

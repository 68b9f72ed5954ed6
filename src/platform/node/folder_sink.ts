/** Writes to disk: files are staged under temporary names and renamed into place at the end. */
import {randomUUID} from 'node:crypto';
import {type FileHandle, mkdir, open, realpath, rename, rm} from 'node:fs/promises';
import {basename, dirname, join} from 'node:path';
import {type ByteSink, type FileSink, type PresetSink} from '../../base/byte_sink';
import {ValueError} from '../../base/errors';
import {lookAt, pathOf, writing} from './disk';
import {blocked, filesIn, finishPending, type Journal, journalIn, oldIn, prepareTarget, publish} from './folder_commit';
import {filesInPlace} from './folder_files';
import {removeAbandoned, stagingName, syncFolder} from './staging';

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
      const {bytesWritten} = await writing('file', this.name, () => this.handle.write(bytes, done, wanted));
      done += bytesWritten;
    }
  }

  async close(): Promise<void> {
    this.ended(this.handle);
    // The contents must reach the disk before the rename does.
    await writing('file', this.name, async () => {
      await this.handle.sync();
      await this.handle.close();
    });
  }
}

const exists = async (path: string) => (await lookAt(path)) !== undefined;

/** Opens a new file that will replace the one at `target`, with the same permissions. */
async function openNew(path: string, target: string): Promise<FileHandle> {
  const mode = (await lookAt(target))?.mode;
  const handle = await open(path, 'w', mode);
  // Restores the bits that the process' umask removed.
  if (mode !== undefined) await handle.chmod(mode & 0o777);
  return handle;
}

/** How often a commit waits for the commits of other processes. */
const ATTEMPTS = 20;

/**
 * Stages files in a folder on the same disk. A new target is created with a single rename. In an existing target the new
 * files replace the old ones by a commit that survives a kill: see `folder_commit.ts`. Files that are not part of a
 * preset are not touched.
 */
class FolderSink implements PresetSink {
  private readonly id = randomUUID();
  /** Contains the folder of the commit. */
  private staging = '';
  private readonly written: string[] = [];
  private readonly opened = new Set<FileHandle>();
  /** True once the new files have become valid. */
  private committed = false;

  constructor(readonly name: string) {}

  async begin(): Promise<void> {
    const {name} = this;
    const prefix = `.${basename(name)}`;
    await removeAbandoned(dirname(name), prefix);
    if (await exists(name)) {
      await finishPending(name);
      await removeAbandoned(name);
      // Inside the target, which may be on a different disk than its parent folder.
      this.staging = join(name, stagingName());
    } else this.staging = join(dirname(name), stagingName(prefix));
    await mkdir(filesIn(this.commitFolder), {recursive: true});
  }

  private get commitFolder(): string {
    return join(this.staging, this.id);
  }

  async create(path: string): Promise<ByteSink> {
    const full = join(filesIn(this.commitFolder), path);
    const target = join(this.name, path);
    const handle = await writing('file', target, async () => {
      await mkdir(dirname(full), {recursive: true});
      return openNew(full, target);
    });
    this.opened.add(handle);
    if (!this.written.includes(path)) this.written.push(path);
    return new DiskSink(target, handle, ended => this.opened.delete(ended));
  }

  async commit(obsolete: (path: string) => boolean): Promise<void> {
    await writing('folder', this.name, () => this.replace(obsolete));
  }

  private async replace(obsolete: (path: string) => boolean): Promise<void> {
    const {name, staging, commitFolder, written} = this;
    const folders = new Set(written.map(path => dirname(join(filesIn(commitFolder), path))));
    for (const folder of [...folders, filesIn(commitFolder)]) await syncFolder(folder);
    if (!(await exists(name))) {
      await rename(filesIn(commitFolder), name);
      this.committed = true;
      await syncFolder(dirname(name));
      await rm(staging, {recursive: true, force: true});
      return;
    }
    await mkdir(oldIn(commitFolder));
    for (let attempts = 0; !this.committed; attempts++) {
      if (attempts === ATTEMPTS) throw blocked(name);
      await finishPending(name);
      // Everything that can fail is tried before the files of the target change.
      for (const path of written) await prepareTarget(name, path);
      const stale = (await filesInPlace(name)).filter(path => obsolete(path) && !written.includes(path));
      await this.writeJournal({files: written, obsolete: stale});
      this.committed = await publish(staging, name);
    }
    try {
      await finishPending(name);
    } catch (error) {
      throw new Error(
        `Expected to move the saved files into place in "${name}". Received: ${(error as Error).message}. They are ` +
          'complete, and read from a hidden folder there. The next load or save moves them: remove the cause, such as ' +
          'a program that keeps a file open, and try again.',
        {cause: error},
      );
    }
  }

  private async writeJournal(journal: Journal): Promise<void> {
    const {commitFolder} = this;
    const handle = await open(journalIn(commitFolder), 'w');
    try {
      await handle.writeFile(JSON.stringify(journal));
      await handle.sync();
    } finally {
      await handle.close();
    }
    await syncFolder(commitFolder);
    await syncFolder(this.staging);
  }

  async abort(): Promise<void> {
    for (const handle of this.opened) await handle.close();
    this.opened.clear();
    if (!this.committed) await rm(this.staging, {recursive: true, force: true});
  }
}

/** Like `mkdir` with `recursive`, which never returns for folders that allow no subfolders, such as /proc. */
async function createFolders(path: string): Promise<void> {
  if (await exists(path)) return;
  await createFolders(dirname(path));
  await mkdir(path);
}

export async function folderSink(path: string): Promise<PresetSink> {
  const full = pathOf(path);
  const found = await lookAt(full);
  if (found && !found.isDirectory()) {
    throw new ValueError(`Expected the path of a folder to save into. Received: "${path}", which is a file.`);
  }
  // Created immediately, so that an unwritable location is reported before anything is computed.
  const sink = new FolderSink(full);
  await writing('folder', path, async () => {
    await createFolders(dirname(full));
    await sink.begin();
  });
  return sink;
}

export async function fileSink(path: string): Promise<FileSink> {
  const given = pathOf(path);
  const found = await lookAt(given);
  if (found?.isDirectory()) {
    throw new ValueError(`Expected the path of a file to save into. Received: "${path}", which is a folder.`);
  }
  // A link stays, and the file that it points to is replaced.
  const full = found ? await realpath(given) : given;
  const prefix = `.${basename(full)}`;
  const staged = join(dirname(full), stagingName(prefix));
  const handle = await writing('file', path, async () => {
    await createFolders(dirname(full));
    await removeAbandoned(dirname(full), prefix);
    return openNew(staged, full);
  });
  let closed = false;
  const disk = new DiskSink(full, handle, () => (closed = true));
  return {
    name: full,
    write: bytes => disk.write(bytes),
    async close() {
      await disk.close();
      await writing('file', full, () => rename(staged, full));
      await syncFolder(dirname(full));
    },
    async abort() {
      if (!closed) await handle.close();
      await rm(staged, {force: true});
    },
  };
}

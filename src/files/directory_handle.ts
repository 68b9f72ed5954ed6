/** Browser folders: in the origin's private file system, or chosen by the user. */
import {type ByteSink, type PresetSink} from '../base/byte_sink';
import {type ByteSource, type PresetSource} from '../base/byte_source';
import {ValueError} from '../base/errors';
import {type HandleWriter} from '../base/handle_writer';
import {BlobFile} from './blob';

class HandleSink implements ByteSink {
  constructor(
    readonly name: string,
    private readonly writer: HandleWriter,
  ) {}
  async write(bytes: Uint8Array): Promise<void> {
    await this.writer.write(bytes);
  }
  // Most browsers stage the contents until the writer is closed, which `commit` does.
  async close(): Promise<void> {}
}

const notFound = (error: unknown) => (error as {name?: unknown}).name === 'NotFoundError';

/**
 * A preset in a `FileSystemDirectoryHandle`, for saving and loading. On commit the browser replaces each file as a
 * whole, if it can: Safari before version 26 writes in place.
 */
export class DirectoryHandlePreset implements PresetSource, PresetSink {
  private readonly writers = new Map<string, HandleWriter>();
  /** Files that did not exist before. `abort` removes them, because otherwise they would remain as empty files. */
  private readonly created = new Set<string>();

  constructor(
    private readonly directory: FileSystemDirectoryHandle,
    readonly name = directory.name || 'folder',
  ) {}

  async has(path: string): Promise<boolean> {
    return (await this.find(path)) !== undefined;
  }

  async open(path: string): Promise<ByteSource> {
    const handle = await this.find(path);
    if (!handle)
      throw new ValueError(`Expected file "${path}" in folder "${this.name}". Received a folder without it.`);
    return new BlobFile(path, await handle.getFile());
  }

  async list(): Promise<string[]> {
    const names: string[] = [];
    // TypeScript's DOM library lacks `entries`, which all browsers with directory handles have.
    const {directory} = this as unknown as {directory: {entries(): AsyncIterable<[string, FileSystemHandle]>}};
    for await (const [name, {kind}] of directory.entries()) if (kind === 'file') names.push(name);
    return names.sort();
  }

  async create(path: string): Promise<ByteSink> {
    if (!(await this.find(path))) this.created.add(path);
    const [folder, name] = await this.folderOf(path, true);
    const {writerOf} = await import('../base/handle_writer');
    const writer = await writerOf(await folder.getFileHandle(name, {create: true}));
    this.writers.set(path, writer);
    return new HandleSink(path, writer);
  }

  async commit(obsolete: (path: string) => boolean): Promise<void> {
    const written = new Set(this.writers.keys());
    for (const [path, writer] of this.writers) {
      await writer.close();
      this.writers.delete(path);
      this.created.delete(path);
    }
    const {removeFiles} = await import('./directory_files');
    await removeFiles(this.directory, path => obsolete(path) && !written.has(path));
  }

  async abort(): Promise<void> {
    for (const writer of this.writers.values()) await writer.abort();
    for (const path of this.created) {
      // The file does not exist if creating it failed.
      if (!(await this.find(path))) continue;
      const [folder, name] = await this.folderOf(path, false);
      await folder.removeEntry(name);
    }
    this.writers.clear();
    this.created.clear();
  }

  private async folderOf(path: string, create: boolean): Promise<[FileSystemDirectoryHandle, string]> {
    const names = path.split('/');
    const name = names.pop()!;
    let folder = this.directory;
    for (const part of names) folder = await folder.getDirectoryHandle(part, {create});
    return [folder, name];
  }

  private async find(path: string): Promise<FileSystemFileHandle | undefined> {
    try {
      const [folder, name] = await this.folderOf(path, false);
      return await folder.getFileHandle(name);
    } catch (error) {
      if (notFound(error)) return undefined;
      throw error;
    }
  }
}

/** A single file as a target where usually a folder is written. */
import {splitPath} from '#platform/files';
import {type FileSink, type PresetSink} from '../base/byte_sink';
import {type FileTarget, fileName, openFileTarget} from './open_file';
import {refuseAddress} from './refuse_address';
import {openTarget, type PresetTarget} from './open_folder';

/** Where the file goes. */
export interface SingleTarget {
  readonly sink: PresetSink;
  /** Name of the file in the sink. */
  readonly name: string;
  /** Whether no other file can be written next to it. */
  readonly alone: boolean;
}

/** A sink that takes one file. */
class FileAsFolder implements PresetSink {
  constructor(private readonly file: FileSink) {}

  get name(): string {
    return this.file.name;
  }

  async create(): ReturnType<PresetSink['create']> {
    const {file} = this;
    return {name: file.name, write: bytes => file.write(bytes), close: async () => {}};
  }

  async commit(): Promise<void> {
    await this.file.close();
  }

  abort(): Promise<void> {
    return this.file.abort();
  }
}

const isFolder = (target: object): boolean => {
  const {create, commit, kind} = target as Partial<PresetSink> & {kind?: unknown};
  return kind === 'directory' || (typeof create === 'function' && typeof commit === 'function');
};

/**
 * Opens a target that is a file: a path or address with this ending, a file handle or a byte sink. On disk, other files
 * can be written next to it, and all of them replace older ones together.
 *
 * @param ending such as ".gguf".
 * @returns undefined for folders.
 * @throws ValueError if it cannot be written.
 */
export async function openSingleTarget(
  target: PresetTarget | FileTarget,
  ending: string,
): Promise<SingleTarget | undefined> {
  if (target instanceof URL) return openSingleTarget(target.href, ending);
  const fits = (name: string) => name.toLowerCase().endsWith(ending);
  if (typeof target === 'string') {
    if (!fits(target)) return undefined;
    refuseAddress(target, 'file');
    const {folder, name} = splitPath(target);
    return {sink: await openTarget(folder), name, alone: false};
  }
  if (typeof target !== 'object' || target === null || isFolder(target)) return undefined;
  const name = fileName(target as FileTarget) ?? '';
  const sink = new FileAsFolder(await openFileTarget(target as FileTarget));
  return {sink, name: fits(name) ? name : `model${ending}`, alone: true};
}

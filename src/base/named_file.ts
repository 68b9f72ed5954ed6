/** A preset that is one file, named by its path or address instead of that of its folder. */
import {type ByteSource, type PresetSource} from './byte_source';
import {ValueError} from './errors';

/** Names of files that are complete presets. */
const PRESET_FILE = /\.(gguf|keras)$/i;

export const isPresetFile = (name: string): boolean => PRESET_FILE.test(name);

export const isGgufFile = (name: string): boolean => /\.gguf$/i.test(name);

/**
 * One file, and for GGUF the other files with the same ending in its folder: a model can be divided into several files.
 * All other files of the folder are hidden, since they may belong to another model.
 */
export class NamedFile implements PresetSource {
  /**
   * @param name path or address of the file, for errors.
   * @param named its name in the folder.
   */
  constructor(
    readonly name: string,
    readonly named: string,
    readonly folder: PresetSource,
  ) {}

  private belongs(path: string): boolean {
    // Only GGUF divides a model into several files.
    return path === this.named || (!path.includes('/') && isGgufFile(path) && isGgufFile(this.named));
  }

  async has(path: string): Promise<boolean> {
    return this.belongs(path) && this.folder.has(path);
  }

  async open(path: string): Promise<ByteSource> {
    if (this.belongs(path)) return this.folder.open(path);
    throw new ValueError(`Expected "${path}" next to "${this.name}" not to be needed: the preset is one file.`);
  }

  async list(): Promise<string[] | undefined> {
    return (await this.folder.list?.())?.filter(path => this.belongs(path));
  }
}

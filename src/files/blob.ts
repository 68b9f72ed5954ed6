/** Files that the user chose in a browser, with an `<input webkitdirectory>` or by dropping them on the page. */
import {type ByteSource, type PresetSource, truncated} from '../base/byte_source';
import {describeValue, ValueError} from '../base/errors';

export class BlobFile implements ByteSource {
  constructor(
    readonly name: string,
    private readonly blob: Blob,
  ) {}
  get size(): number {
    return this.blob.size;
  }
  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset + target.length > this.size) {
      throw truncated(this, offset + target.length);
    }
    target.set(new Uint8Array(await this.blob.slice(offset, offset + target.length).arrayBuffer()));
  }
  async close(): Promise<void> {}
}

/**
 * The files of a preset in a browser: those of an `<input webkitdirectory>` or `<input multiple>`, a list of `File`s,
 * or an object of `Blob`s by path inside the preset (`config.json`, `assets/tokenizer/vocabulary.spm`).
 *
 * A `File` is found at its `webkitRelativePath`, without the folders that all files are in. One that was chosen without
 * its folder is found by its name alone.
 *
 * @example
 * const lm = await Gemma3CausalLM.fromPreset(new files.BlobPreset(input.files));
 */
export class BlobPreset implements PresetSource {
  readonly name: string;
  private readonly files: ReadonlyMap<string, Blob>;
  /** Whether the files were chosen without their folder, so that only their names are known. */
  private readonly isFlat: boolean;

  /**
   * @param name in error messages. Defaults to the name of the chosen folder, or "files".
   * @throws ValueError without files, on anything but files, and on two files with the same path.
   */
  constructor(files: FileList | Iterable<File> | Record<string, Blob>, name?: string) {
    const {folder, isList, entries} = entriesOf(files);
    this.name = name ?? folder ?? 'files';
    this.files = new Map(entries);
    this.isFlat = isList && folder === undefined && entries.every(([path]) => !path.includes('/'));
    if (entries.length === 0) throw refused('none: no file was chosen');
    const wrong = entries.find(([, file]) => !(file instanceof Blob));
    if (wrong) throw refused(`${describeValue(wrong[1])} as "${wrong[0]}"`);
    const twice = entries.find(([path, file]) => this.files.get(path) !== file);
    if (twice) throw refused(`two files with the path "${twice[0]}"`);
  }

  async has(path: string): Promise<boolean> {
    return this.find(path) !== undefined;
  }

  async open(path: string): Promise<ByteSource> {
    const blob = this.find(path);
    if (!blob) {
      const existing = [...this.files.keys()].join(', ');
      throw new ValueError(`Expected file "${path}" in the preset. Received: ${existing}.`);
    }
    return new BlobFile(path, blob);
  }

  async list(): Promise<string[]> {
    return [...this.files.keys()].filter(path => !path.includes('/'));
  }

  private find(path: string): Blob | undefined {
    const found = this.files.get(path);
    if (found) return found;
    return this.isFlat ? this.files.get(path.slice(path.lastIndexOf('/') + 1)) : undefined;
  }
}

const refused = (received: string) =>
  new ValueError(`BlobPreset expected the files of a preset, or Blobs by path. Received: ${received}.`);

/** Empty for a `Blob` that is not a `File`. */
const pathOf = ({webkitRelativePath, name}: Partial<File>): string => webkitRelativePath || name || '';

/** Paths inside the preset with their files, and the folder that all of them are in. */
function entriesOf(files: unknown): {folder?: string; isList: boolean; entries: [path: string, file: Blob][]} {
  if (typeof files !== 'object' || files === null || files instanceof Blob) throw refused(describeValue(files));
  // A FileList has no iterator in the types of TypeScript without "dom.iterable".
  const isList = Symbol.iterator in files || (typeof FileList !== 'undefined' && files instanceof FileList);
  if (!isList) return {isList, entries: Object.entries(files as Record<string, Blob>)};
  const list = [...(files as Iterable<File>)];
  const nameless = list.find(file => !(file instanceof Blob) || pathOf(file) === '');
  if (nameless !== undefined) throw refused(`${describeValue(nameless)} without a name in a list`);
  let paths = list.map(file => pathOf(file).split('/'));
  let folder: string | undefined;
  // "assets" is a folder of the preset itself, even where nothing else was chosen.
  for (;;) {
    const top = paths[0]?.[0];
    if (top === undefined || top === 'assets' || !paths.every(path => path.length > 1 && path[0] === top)) break;
    folder = top;
    paths = paths.map(path => path.slice(1));
  }
  return {folder, isList, entries: list.map((file, i) => [paths[i]!.join('/'), file])};
}

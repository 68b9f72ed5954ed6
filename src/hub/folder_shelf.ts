/** A folder of the user, or of the cache for web addresses, that holds the files of one model. */
import * as store from '#platform/store';
import {type RemoteFile, type Shelf} from './hub';
import {addToRecord, compare, type ModelRecord, readRecord, writeRecord} from './record';

const OWN = '.tfjs-gemma3';

export class FolderShelf implements Shelf {
  /** The folder for everything that is not part of the model. */
  readonly own: string;
  readonly lock: string;
  /** Records of the files, so that they are not downloaded again. */
  readonly record: string;
  private readonly partials: string;

  /** @param name the model, which must stay the same. */
  constructor(
    readonly folder: string,
    private readonly name: string,
  ) {
    this.own = `${folder}/${OWN}`;
    this.lock = `${this.own}/lock`;
    this.record = `${this.own}/files.json`;
    this.partials = `${this.own}/part`;
  }

  partial({path}: RemoteFile): string {
    return `${this.partials}/${path}`;
  }

  target({path}: RemoteFile): string {
    return `${this.folder}/${path}`;
  }

  async isComplete(): Promise<boolean> {
    const {complete, files} = await readRecord(this.record);
    if (!complete) return false;
    for (const [path, {size}] of Object.entries(files)) {
      if ((await store.fileSize(`${this.folder}/${path}`)) !== size) return false;
    }
    return true;
  }

  async has(file: RemoteFile): Promise<boolean> {
    const {files} = await readRecord(this.record);
    const known = files[file.path];
    const found = await store.fileSize(this.target(file));
    if (found === undefined || (file.size !== undefined && found !== file.size)) return false;
    // A file that the user put there is accepted if its bytes are the hub's.
    if (!known) {
      const {checksum} = file;
      return checksum !== undefined && (await compare(this.target(file), {size: found, checksum})) === undefined;
    }
    return (
      found === known.size &&
      (file.checksum === undefined || known.checksum?.value === file.checksum.value) &&
      known.version === file.version
    );
  }

  async begin(): Promise<void> {
    if ((await store.readText(this.record)) !== undefined) return;
    await writeRecord(this.record, {name: this.name, complete: false, files: {}});
  }

  async add(file: RemoteFile): Promise<void> {
    await addToRecord(this.record, file, this.name);
  }

  /** Removes all files, and the record last: until then, the remaining files can be listed and removed. */
  async remove(): Promise<void> {
    for (const {name} of await store.entries(this.folder)) {
      if (name !== OWN) await store.remove(`${this.folder}/${name}`);
    }
    await store.remove(this.partials);
    await store.remove(this.record);
  }

  async finish(files: readonly RemoteFile[], complete: boolean): Promise<void> {
    if (!complete) return;
    const {files: known} = await readRecord(this.record);
    const kept: ModelRecord['files'] = Object.fromEntries(
      files.map(({path, size, checksum, version}) => [path, known[path] ?? {size: size!, checksum, version}]),
    );
    // Before the record, because a complete model is not checked again.
    await store.removePartials(this.partials);
    await writeRecord(this.record, {name: this.name, complete, files: kept});
  }
}

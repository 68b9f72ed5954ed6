/**
 * The cache of kagglehub, in its layout: `models/<owner>/<model>/<framework>/<variation>/<version>/` with the files;
 * next to it `<version>.complete` for all files, and `.complete/<version>/<path>.complete` for each one. KerasHub
 * requests single files, so both kinds of marks are written.
 */
import * as store from '#platform/store';
import {type RemoteFile, type Shelf} from './hub';
import {addToRecord} from './record';

export interface KaggleHandle {
  readonly owner: string;
  readonly model: string;
  readonly framework: string;
  readonly variation: string;
  readonly version: number;
}

export const kaggleCache = (): string =>
  store.environment('KAGGLEHUB_CACHE') ?? `${store.homeFolder()}/.cache/kagglehub`;

export const variationFolder = ({owner, model, framework, variation}: Omit<KaggleHandle, 'version'>): string =>
  `${kaggleCache()}/models/${owner}/${model}/${framework}/${variation}`;

export class KaggleShelf implements Shelf {
  readonly folder: string;
  readonly lock: string;
  /** Checksums, which kagglehub does not keep. */
  readonly record: string;
  /** Marks for single files. */
  readonly marks: string;
  /** The mark for all files. */
  readonly mark: string;
  /** Unfinished files. */
  readonly partials: string;

  constructor(readonly handle: KaggleHandle) {
    const {version} = handle;
    const base = variationFolder(handle);
    this.folder = `${base}/${version}`;
    this.lock = `${base}/.${version}.lock`;
    this.record = `${base}/.complete/${version}.checksums.json`;
    this.marks = `${base}/.complete/${version}`;
    this.mark = `${base}/${version}.complete`;
    this.partials = `${base}/.${version}.part`;
  }

  partial({path}: RemoteFile): string {
    return `${this.partials}/${path}`;
  }

  target({path}: RemoteFile): string {
    return `${this.folder}/${path}`;
  }

  markOf(path: string): string {
    return `${this.marks}/${path}.complete`;
  }

  async isComplete(): Promise<boolean> {
    return (await store.fileSize(this.mark)) !== undefined && (await store.entries(this.folder)).length > 0;
  }

  async has({path, size}: RemoteFile): Promise<boolean> {
    const found = await store.fileSize(`${this.folder}/${path}`);
    if (found === undefined || (size !== undefined && found !== size)) return false;
    const marks = await Promise.all([this.markOf(path), this.mark].map(mark => store.fileSize(mark)));
    return marks.some(mark => mark !== undefined);
  }

  async add(file: RemoteFile): Promise<void> {
    await addToRecord(this.record, file);
    await store.writeText(this.markOf(file.path), '');
  }

  async finish(files: readonly RemoteFile[], complete: boolean): Promise<void> {
    for (const {path} of files) {
      const mark = this.markOf(path);
      if ((await store.fileSize(mark)) === undefined) await store.writeText(mark, '');
    }
    if (!complete) return;
    // Before the mark, because a complete model is not checked again.
    await store.removePartials(this.partials);
    await store.writeText(this.mark, '');
  }
}

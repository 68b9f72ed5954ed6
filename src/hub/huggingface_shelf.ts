/**
 * The cache of huggingface_hub, in its layout: `models--<owner>--<name>/` with `blobs/` of files by their checksums,
 * `snapshots/<commit>/` of links to them, and `refs/` with the commits of branches and tags.
 */
import * as store from '#platform/store';
import {type RemoteFile, type Shelf} from './hub';
import {type ModelRecord, readRecord, writeRecord} from './record';

const home = () =>
  store.environment('HF_HOME') ??
  `${store.environment('XDG_CACHE_HOME') ?? `${store.homeFolder()}/.cache`}/huggingface`;

export const huggingFaceCache = (): string =>
  store.environment('HF_HUB_CACHE') ?? store.environment('HUGGINGFACE_HUB_CACHE') ?? `${home()}/hub`;

/** The user's token, from the places where huggingface_hub looks for it. */
export async function huggingFaceToken(): Promise<string | undefined> {
  if (/^(1|on|yes|true)$/i.test(store.environment('HF_HUB_DISABLE_IMPLICIT_TOKEN') ?? '')) return undefined;
  const given = store.environment('HF_TOKEN') ?? store.environment('HUGGING_FACE_HUB_TOKEN');
  const text = given ?? (await store.readText(store.environment('HF_TOKEN_PATH') ?? `${home()}/token`));
  return text?.trim() || undefined;
}

/** The folder of a repository in the cache. */
export const repositoryFolder = (id: string): string => `${huggingFaceCache()}/models--${id.replace('/', '--')}`;

/** The folder of locks for a repository. huggingface_hub has one for each file there. */
export const lockFolder = (id: string): string => `${huggingFaceCache()}/.locks/models--${id.replace('/', '--')}`;

/** The lock for all changes of a repository. */
export const lockOf = (id: string): string => `${lockFolder(id)}/tfjs-gemma3.lock`;

/** The commit of a branch or tag when it was last queried. */
export const cachedCommit = async (id: string, revision: string): Promise<string | undefined> =>
  (await store.readText(`${repositoryFolder(id)}/refs/${revision}`))?.trim();

export class HuggingFaceShelf implements Shelf {
  readonly folder: string;
  readonly lock: string;
  private readonly repository: string;
  /** Which files were chosen for a download. huggingface_hub ignores it. */
  readonly record: string;

  /**
   * @param id owner and name.
   * @param revision the name by which the commit was requested.
   * @param root the requested folder or file in the repository.
   */
  constructor(
    readonly id: string,
    readonly commit: string,
    private readonly revision: string,
    root: string,
  ) {
    this.repository = repositoryFolder(id);
    this.folder = `${this.repository}/snapshots/${commit}`;
    this.lock = lockOf(id);
    this.record = `${this.repository}/tfjs-gemma3/${commit}${root && `-${root.replaceAll('/', '--')}`}.json`;
  }

  partial(file: RemoteFile): string {
    return `${this.target(file)}.part`;
  }

  target({checksum}: RemoteFile): string {
    return `${this.repository}/blobs/${checksum!.value}`;
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
    if ((await store.fileSize(`${this.folder}/${file.path}`)) === file.size) return true;
    // Another commit may have the same file, or a process was killed just before it was added.
    if ((await store.fileSize(this.target(file))) !== file.size) return false;
    await store.removePartial(this.partial(file));
    await this.add(file);
    return true;
  }

  async add(file: RemoteFile): Promise<void> {
    await store.link(this.target(file), `${this.folder}/${file.path}`);
  }

  async finish(files: readonly RemoteFile[], complete: boolean): Promise<void> {
    if (complete) {
      const known = files.map(({path, size, checksum}) => [path, {size: size!, checksum: checksum!}] as const);
      const record: ModelRecord = {complete, files: Object.fromEntries(known)};
      await writeRecord(this.record, record);
    }
    await this.writeRef();
  }

  /** Records the commit that the revision refers to. */
  async writeRef(): Promise<void> {
    if (this.revision === this.commit || (await cachedCommit(this.id, this.revision)) === this.commit) return;
    await store.writeText(`${this.repository}/refs/${this.revision}`, this.commit);
  }
}

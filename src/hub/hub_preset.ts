/**
 * A model of a hub as a preset. Files are downloaded when they are first opened: small ones together and weights
 * together, so that reading a configuration or a tokenizer downloads no weights.
 */
import * as store from '#platform/store';
import {type ByteSource, type PresetSource} from '../base/byte_source';
import {ValueError} from '../base/errors';
import {downloadFiles, type DownloadSettings} from './download';
import {type HubModel, type RemoteFile} from './hub';
import {isWeights} from './select_files';

/** Files of at most this many bytes are downloaded together. */
const SMALL = 256 * 1024;

export class HubPreset implements PresetSource {
  private readonly files: readonly RemoteFile[];
  private readonly prefix: string;
  private opened: Promise<PresetSource> | undefined;
  /** Downloads of groups of files. */
  private readonly downloads = new Map<string, Promise<void>>();

  /** @param model a model whose files are known. */
  constructor(
    private readonly model: HubModel & {readonly files: readonly RemoteFile[]},
    private readonly settings: DownloadSettings,
  ) {
    this.files = model.files;
    this.prefix = model.root && `${model.root}/`;
  }

  get name(): string {
    return this.model.name;
  }

  async has(path: string): Promise<boolean> {
    return this.find(path) !== undefined;
  }

  async open(path: string): Promise<ByteSource> {
    const file = this.find(path);
    if (!file) throw new ValueError(`Expected file "${path}" in ${this.name}. Received: a model without it.`);
    await this.ensure(file);
    this.opened ??= openShelf(this.model);
    return (await this.opened).open(path);
  }

  /** Names of the files in the folder itself. */
  async list(): Promise<string[]> {
    const inside = this.files
      .filter(({path}) => path.startsWith(this.prefix))
      .map(({path}) => path.slice(this.prefix.length));
    return inside.filter(path => !path.includes('/')).sort();
  }

  private find(path: string): RemoteFile | undefined {
    return this.files.find(file => file.path === this.prefix + path);
  }

  private ensure(file: RemoteFile): Promise<void> {
    const group = groupOf(file);
    const running = this.downloads.get(group);
    if (running) return running;
    const files = this.files.filter(other => groupOf(other) === group);
    const download = downloadFiles(this.model, files, files.length === this.files.length, this.settings).then(
      async () => {
        // The last group makes the model complete.
        const present = await Promise.all(this.files.map(other => this.model.shelf.has(other)));
        if (files.length < this.files.length && present.every(Boolean)) {
          await downloadFiles(this.model, this.files, true, this.settings);
        }
      },
    );
    this.downloads.set(group, download);
    // A failed download may be tried again.
    download.catch(() => this.downloads.delete(group));
    return download;
  }
}

const groupOf = ({path, size}: RemoteFile): string =>
  isWeights(path) ? 'weights' : size === undefined || size <= SMALL ? 'small' : path;

/** The folder of a model that is in the cache. */
export async function openShelf({shelf, root, name}: HubModel): Promise<PresetSource> {
  const folder = root ? `${shelf.folder}/${root}` : shelf.folder;
  const source = await store.openStored(folder);
  if (source) return source;
  throw new ValueError(`Expected ${name} at ${folder}. Received: nothing there. Download it again.`);
}

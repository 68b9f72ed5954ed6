/** Opens models as presets, or downloads them as a whole, by their names on hubs. */
import * as store from '#platform/store';
import {type PresetSource} from '../base/byte_source';
import {checkKeys, show, ValueError} from '../base/errors';
import {NamedFile} from '../base/named_file';
import {type HttpOptions, userHeaders} from '../files/http_client';
import {hubOf, hubs} from './all';
import {downloadFiles, type DownloadProgress, type DownloadSettings} from './download';
import {FolderShelf} from './folder_shelf';
import {type HubModel} from './hub';
import {HubPreset, openShelf} from './hub_preset';
import {RangedPreset} from './ranged_preset';
import {filesBelow} from './record';
import {registeredPreset} from './registry';
import {Requests} from './requests';
import {type OpenPresetOptions} from './resolver';

/** Options of {@link downloadPreset}. */
export interface DownloadOptions extends HttpOptions {
  /** A folder for the files, instead of the cache. Created if it is missing. */
  to?: string;
  /** Called after each piece that has arrived; `loaded` and `total` are bytes of all files. */
  onProgress?: (progress: DownloadProgress) => void;
  /** Called once if this process waits because another one is downloading the same model. */
  onWait?: () => void;
}

/** The result of {@link downloadPreset}. */
export interface DownloadedPreset {
  /** The full name, with the version. */
  name: string;
  /** The folder with the files, or the file if the name refers to one: pass it to `fromPreset`. */
  folder: string;
  /** Paths of the files, relative to the model's folder. */
  files: string[];
  /** Bytes that were received; 0 if all files were already there. */
  received: number;
}

const OPTIONS = ['to', 'onProgress', 'onWait', 'offline', 'headers', 'fetch', 'signal'] as const;

/** Whether the options or the environment forbid requests. */
const isOffline = (offline: boolean | undefined): boolean =>
  offline ?? /^(1|on|yes|true)$/i.test(store.environment('HF_HUB_OFFLINE') ?? '');

/** The full name for a name of the registry; other names are returned unchanged. */
const fullName = (name: string): string => registeredPreset(name)?.kaggleHandle ?? name;

async function findModel(name: string, options: HttpOptions): Promise<{model: HubModel; requests: Requests}> {
  if (!store.canStore()) {
    throw new ValueError(
      `Expected a page that may store files, which needs https. Received: "${name}" in a browser. Download it with "gemma3 download", serve its ` +
        'folder from a web server, and pass its address.',
    );
  }
  const {fetch: given, signal, headers, offline} = options;
  if (given !== undefined && typeof given !== 'function') {
    throw new ValueError(`Expected fetch to be a function. Received: ${typeof given}.`);
  }
  const requests = new Requests(given ?? store.downloadFetch(), signal);
  const full = fullName(name);
  const hub = hubOf(full)!;
  const own = headers === undefined ? {} : {headers: userHeaders(headers)};
  return {model: await hub.find(full, {offline: isOffline(offline), requests, ...own}), requests};
}

/** Opens a model by its full name. Its files are downloaded as they are opened. */
export async function openHubPreset(
  name: string,
  {download = true, ...options}: OpenPresetOptions,
): Promise<PresetSource> {
  const {model, requests} = await findModel(name, options);
  const {files, root} = model;
  if (files === null) return openShelf(model);
  if (!download) {
    if (!files.some(({path}) => path === root)) return new RangedPreset({...model, files}, root, requests);
    const cut = root.lastIndexOf('/');
    const folder = new RangedPreset({...model, files}, root.slice(0, Math.max(0, cut)), requests);
    return new NamedFile(model.name, root.slice(cut + 1), folder);
  }
  const settings: DownloadSettings = {requests, signal: options.signal, onProgress: options.onDownload};
  // A name of one file means a model in one file.
  if (!files.some(({path}) => path === root)) return new HubPreset({...model, files}, settings);
  await downloadFiles(model, files, true, settings);
  return openShelf(model);
}

/** Implements `downloadPreset` of on_demand.ts; see there for errors. */
export async function downloadPreset(name: string, options: DownloadOptions = {}): Promise<DownloadedPreset> {
  checkKeys('downloadPreset', options, OPTIONS);
  if (typeof name !== 'string' || !hubOf(fullName(name))) {
    throw new ValueError(
      `Expected the name of a model to download, such as ${hubs.map(({example}) => example).join(', ')} or ` +
        `gemma3_instruct_1b. Received: ${show(name)}. See "gemma3 presets" for names.`,
    );
  }
  const {model, requests} = await findModel(name, options);
  const {to, signal, onProgress, onWait} = options;
  const settings: DownloadSettings = {requests, signal, onProgress, ...(onWait && {onWait})};
  if (to !== undefined) return downloadTo(to, model, settings);
  const {files, shelf, root} = model;
  const received = files === null ? 0 : await downloadFiles(model, files, true, settings);
  return {
    name: model.name,
    folder: root ? `${shelf.folder}/${root}` : shelf.folder,
    files: files === null ? await visibleFiles(shelf.folder) : files.map(({path}) => path),
    received,
  };
}

const visibleFiles = async (folder: string): Promise<string[]> =>
  (await filesBelow(folder)).filter(path => !path.startsWith('.tfjs-gemma3/'));

/** Downloads into a folder of the user. Files that the cache has are copied. */
async function downloadTo(to: string, model: HubModel, settings: DownloadSettings): Promise<DownloadedPreset> {
  const {name, root} = model;
  const folder = to.replace(/(?<=.)[\\/]+$/, '');
  const done = (files: string[], received: number): DownloadedPreset => {
    return {name, folder: root ? `${folder}/${root}` : folder, files, received};
  };
  if (model.files !== null) {
    const shelf = new FolderShelf(folder, name);
    const received = await downloadFiles({...model, shelf}, model.files, true, settings);
    return done(
      model.files.map(({path}) => path),
      received,
    );
  }
  const all = await visibleFiles(model.shelf.folder);
  const files = root ? all.filter(path => path === root || path.startsWith(`${root}/`)) : all;
  for (const path of files) {
    settings.signal?.throwIfAborted();
    await store.copy(`${model.shelf.folder}/${path}`, `${folder}/${path}`, settings.signal);
  }
  return done(files, 0);
}

/**
 * Folders of presets on any web server, for downloading them. Servers do not list files, so the files that presets may
 * have are requested, and those that the indexes of weights name.
 */
import * as store from '#platform/store';
import {ValueError} from '../base/errors';
import {isObject} from '../base/json';
import {parseAddress} from '../files/http_address';
import {contentRange} from '../files/http_file';
import {LostRequest} from '../files/http_client';
import {whileNotDownloaded} from './alone';
import {FolderShelf} from './folder_shelf';
import {
  type CachedModel,
  headersFor,
  type Hub,
  type HubModel,
  type HubRequest,
  type RemoteFile,
  type Verified,
} from './hub';
import {bytesBelow, compareAll, filesBelow, readRecord} from './record';
import {isPage, judge, statusError, versionIn} from './range_response';
import {type Answer, type Requests} from './requests';
import {isPresetFile} from '../base/named_file';
import {isSafePath} from '../base/safe_path';

/** Files that presets of KerasHub, tfjs and Hugging Face may have. */
const CANDIDATES = [
  'config.json',
  'metadata.json',
  'task.json',
  'preprocessor.json',
  'tokenizer.json',
  'image_converter.json',
  'assets/tokenizer/vocabulary.spm',
  'model.weights.h5',
  'model.weights.json',
  'model.json',
  'model.safetensors',
  'model.safetensors.index.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'generation_config.json',
  'preprocessor_config.json',
  'processor_config.json',
  'chat_template.jinja',
];

/** Names of weight files in an index, by the name of the index. */
const INDEXES: Record<string, (index: Record<string, unknown>) => unknown[]> = {
  'model.weights.json': ({weight_map: map}) => (isObject(map) ? Object.values(map).flat() : []),
  'model.safetensors.index.json': ({weight_map: map}) => (isObject(map) ? Object.values(map) : []),
  'model.json': ({weightsManifest: groups}) =>
    Array.isArray(groups) ? groups.flatMap((group: unknown) => (isObject(group) ? group.paths : [])) : [],
};

const MISSING = new Set([403, 404, 410]);

/** Bytes that are read to distinguish a file from a web page. */
const HEAD = 512;

async function headOf(answer: Answer): Promise<Uint8Array> {
  const head = new Uint8Array(HEAD);
  let read = 0;
  for await (const piece of answer.pieces()) {
    const part = piece.subarray(0, HEAD - read);
    head.set(part, read);
    read += part.length;
    if (read === HEAD) break;
  }
  return head.subarray(0, read);
}

const webCache = () => `${store.environment('XDG_CACHE_HOME') ?? `${store.homeFolder()}/.cache`}/tfjs-gemma3/web`;

/** The folder for an address: readable, and different for each address. */
function folderOf(address: string): string {
  const {host, pathname, protocol} = new URL(address);
  const parts = [host, ...pathname.split('/')].filter(part => part !== '').map(part => part.replace(/[^\w.-]/g, '_'));
  return `${webCache()}/${protocol.slice(0, -1)}/${parts.map(part => (/^\.+$/.test(part) ? '_' : part)).join('/')}`;
}

class WebFolder {
  readonly name: string;
  private readonly query: string;

  constructor(
    address: string,
    private readonly requests: Requests,
    private readonly headers: Record<string, string> | undefined,
  ) {
    const {name, query} = parseAddress(address);
    this.name = name.replace(/\/+$/, '');
    this.query = query;
  }

  private get credentials(): {credentials?: Record<string, string>} {
    return this.headers === undefined ? {} : {credentials: this.headers};
  }

  /** A file, with size and version; undefined if the server has none. */
  async file(path: string): Promise<RemoteFile | undefined> {
    const url = `${this.name}/${path.split('/').map(encodeURIComponent).join('/')}${this.query}`;
    const file: RemoteFile = {path, url, size: undefined, checksum: undefined};
    return this.requests.retried(async () => {
      const answer = await this.requests.send(url, {
        ...this.credentials,
        headers: {Range: `bytes=0-${HEAD - 1}`, 'Accept-Encoding': 'identity'},
      });
      const head = await headOf(answer);
      const {response} = answer;
      if (MISSING.has(response.status)) return undefined;
      if (response.status === 416) return {...file, size: 0};
      if (response.status !== 200 && response.status !== 206) throw statusError(file, url, response);
      const found = judge(response, file, 0, undefined);
      // Hosts of single-page apps send their page instead of missing files.
      if (isPage(head) || (typeof found === 'string' && found.startsWith('a web page'))) return undefined;
      if (typeof found === 'string') {
        throw new LostRequest(new Error(`Expected the first byte of ${this.name}/${path}. Received: ${found}.`));
      }
      const version = versionIn(response);
      const size = contentRange(response)?.total ?? found.size;
      return {...file, size, ...(version !== undefined && {version})};
    });
  }

  async json(path: string): Promise<Record<string, unknown>> {
    const {response, text} = await this.requests.text(`${this.name}/${path}${this.query}`, this.credentials);
    if (response.status === 200) {
      try {
        const value: unknown = JSON.parse(text);
        if (isObject(value)) return value;
      } catch {
        // Reported below.
      }
    }
    throw new ValueError(
      `Expected an index of weights in ${this.name}/${path}. Received: HTTP ${response.status}, no JSON.`,
    );
  }
}

/** The names of all files of a divided GGUF model; for other models only the given name. */
function partsOf(name: string): string[] {
  const [, stem, count] = /^(.*-)\d{5}-of-(\d{5})\.gguf$/i.exec(name) ?? [];
  if (stem === undefined) return [name];
  return Array.from({length: Number(count)}, (_, i) => `${stem}${String(i + 1).padStart(5, '0')}-of-${count}.gguf`);
}

/** The files of a model that is named by one of them. It has its own folder in the cache. */
async function filesOf(folder: WebFolder, named: string): Promise<RemoteFile[]> {
  const files: RemoteFile[] = [];
  for (const path of partsOf(named)) {
    const file = await folder.file(path);
    if (!file) throw new ValueError(`Expected a file at ${folder.name}/${path}. Received: no such file.`);
    files.push(file);
  }
  return files;
}

async function find(address: string, request: HubRequest): Promise<HubModel> {
  const {offline, requests} = request;
  const {name, query} = parseAddress(address.replace(/\/+$/, ''));
  const shelf = new FolderShelf(folderOf(name), name);
  const slash = name.lastIndexOf('/');
  const root = isPresetFile(name) ? name.slice(slash + 1) : '';
  if (offline) {
    if (await shelf.isComplete()) return {name, shelf, root, files: null};
    throw new ValueError(
      `Expected ${name} in the cache ${webCache()}. Received: a cache without it. Allow downloads once.`,
    );
  }
  const headers = headersFor(undefined, request);
  const credentials = headers && {headers};
  if (root) {
    const folder = new WebFolder(name.slice(0, slash) + query, requests, headers);
    return {name, shelf, root, files: await filesOf(folder, root), ...credentials};
  }
  const folder = new WebFolder(address, requests, headers);
  const files: RemoteFile[] = [];
  const add = async (path: string) => {
    const file = await folder.file(path);
    if (file) files.push(file);
    return file;
  };
  for (const path of CANDIDATES) await add(path);
  for (const [index, namesIn] of Object.entries(INDEXES)) {
    if (!files.some(({path}) => path === index)) continue;
    for (const path of new Set(namesIn(await folder.json(index)))) {
      if (typeof path !== 'string' || !isSafePath(path)) {
        throw new ValueError(`Expected names of files in ${name}/${index}. Received: ${JSON.stringify(path)}.`);
      }
      if (!(await add(path)))
        throw new ValueError(`Expected ${name}/${path}, which ${index} names. Received: no such file.`);
    }
  }
  if (files.length > 0) return {name, shelf, root, files, ...credentials};
  throw new ValueError(
    `Expected a folder with files of a preset, such as config.json, at ${name}. Received: none of them.`,
  );
}

async function list(): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  const root = webCache();
  const records = (await filesBelow(root)).filter(path => path.endsWith('/.tfjs-gemma3/files.json'));
  for (const path of records) {
    const {name} = await readRecord(`${root}/${path}`);
    if (name === undefined) continue;
    const shelf = new FolderShelf(`${root}/${path.slice(0, -'/.tfjs-gemma3/files.json'.length)}`, name);
    models.push({
      name,
      folder: shelf.folder,
      bytes: await bytesBelow(shelf.folder),
      complete: await shelf.isComplete(),
    });
  }
  return models;
}

async function remove({folder, name}: CachedModel): Promise<void> {
  const shelf = new FolderShelf(folder, name);
  await whileNotDownloaded(name, shelf.lock, () => shelf.remove());
  await store.removeEmpty(shelf.own, webCache());
}

async function verify({folder, name}: CachedModel, repair: boolean, signal?: AbortSignal): Promise<Verified> {
  const shelf = new FolderShelf(folder, name);
  const {files} = await readRecord(shelf.record);
  return compareAll(
    Object.entries(files).map(([path, record]) => [path, `${folder}/${path}`, record]),
    repair ? (_path, place) => whileNotDownloaded(name, shelf.lock, () => store.remove(place)) : undefined,
    signal,
  );
}

/** For downloads: `fromPreset` reads web addresses from the server, or with `offline` from here. */
export const webFolder: Hub = {
  schemes: ['https', 'http'],
  example: 'https://example.com/gemma3_270m',
  find,
  list,
  remove,
  verify,
};

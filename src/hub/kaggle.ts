/** Kaggle, where KerasHub's presets are: `kaggle://owner/model/framework/variation`, with or without a version. */
import * as store from '#platform/store';
import {ValueError} from '../base/errors';
import {isObject} from '../base/json';
import {whileNotDownloaded} from './alone';
import {
  type CachedModel,
  haveCredentials,
  headersFor,
  type Hub,
  type HubModel,
  type HubRequest,
  type RemoteFile,
  type Verified,
} from './hub';
import {kaggleCredentials} from './kaggle_credentials';
import {kaggleCache, type KaggleHandle, KaggleShelf, variationFolder} from './kaggle_shelf';
import {bytesBelow, compareAll, filesBelow, readRecord} from './record';
import {nameOf, Unreachable} from './requests';
import {isSafePath} from '../base/safe_path';

const EXAMPLE = 'kaggle://keras/gemma3/keras/gemma3_instruct_1b';

type Handle = Omit<KaggleHandle, 'version'> & {readonly version?: number};

/** The server; a mirror, if the environment names one. */
const endpoint = () => (store.environment('KAGGLE_API_ENDPOINT') ?? 'https://www.kaggle.com').replace(/\/+$/, '');

const nameFor = ({owner, model, framework, variation, version}: Handle) =>
  `kaggle://${owner}/${model}/${framework}/${variation}${version === undefined ? '' : `/${version}`}`;

/** The page of a model, where its licence is accepted. */
const pageOf = ({owner, model}: Handle) => `https://www.kaggle.com/models/${owner}/${model}`;

function parse(name: string): Handle {
  const parts = name.slice('kaggle://'.length).split('/');
  const [owner = '', model = '', framework = '', variation = '', version] = parts;
  const isValid =
    (parts.length === 4 || (parts.length === 5 && /^[1-9]\d{0,8}$/.test(version!))) &&
    [owner, model, framework, variation].every(part => /^[\w.-]+$/.test(part) && isSafePath(part));
  if (isValid) return {owner, model, framework, variation, ...(version !== undefined && {version: Number(version)})};
  throw new ValueError(
    `Expected kaggle://owner/model/framework/variation, perhaps with /version, such as ${EXAMPLE}/3. ` +
      `Received: "${name}".`,
  );
}

/** The error for an answer with a status that refuses access. Says what to do. */
function refusal(handle: Handle, what: string, {status}: Response, hasCredentials: boolean): Error {
  const page = pageOf(handle);
  const expected = `Expected ${what} of ${nameFor(handle)} from Kaggle. Received: HTTP ${status}`;
  if (status === 404) return new ValueError(`${expected}, so there is no such model. Look for it at ${page}.`);
  if (status !== 401 && status !== 403) return new Error(`${expected}. Try again later.`);
  if (hasCredentials) {
    return new ValueError(
      `${expected}. Open ${page} in a browser, sign in and accept the licence. If you have, check that your ` +
        'credentials belong to the same account and have not expired: https://www.kaggle.com/settings.',
    );
  }
  return new ValueError(
    `${expected}, and no credentials were found. Accept the licence at ${page}, create a token at ` +
      'https://www.kaggle.com/settings, and set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or save ' +
      'kaggle.json in ~/.kaggle.',
  );
}

/** The numbers of the versions in the cache, newest first. */
async function cachedVersions(handle: Omit<Handle, 'version'>): Promise<number[]> {
  const found = (await store.entries(variationFolder(handle))).filter(
    ({name, isFolder}) => isFolder && /^\d+$/.test(name),
  );
  return found.map(({name}) => Number(name)).sort((a, b) => b - a);
}

/** The version to use without asking Kaggle: a complete one, or one of which there are files. */
async function cached(handle: Handle): Promise<KaggleShelf | undefined> {
  const versions = handle.version === undefined ? await cachedVersions(handle) : [handle.version];
  const shelves = versions.map(version => new KaggleShelf({...handle, version}));
  for (const shelf of shelves) if (await shelf.isComplete()) return shelf;
  for (const shelf of shelves) if ((await store.entries(shelf.folder)).length > 0) return shelf;
  return undefined;
}

const fromCache = (shelf: KaggleShelf): HubModel => ({name: nameFor(shelf.handle), shelf, root: '', files: null});

class KaggleApi {
  private readonly base: string;

  constructor(
    private readonly handle: Handle,
    private readonly requests: HubRequest['requests'],
    readonly headers: Record<string, string> | undefined,
  ) {
    const {owner, model, framework, variation} = handle;
    this.base = `${endpoint()}/api/v1/models/${[owner, model, framework, variation].map(encodeURIComponent).join('/')}`;
  }

  urlOf(version: number, path: string): string {
    return `${this.base}/${version}/download/${path.split('/').map(encodeURIComponent).join('/')}`;
  }

  async newestVersion(retries?: number): Promise<number> {
    const {versionNumber} = await this.ask('/get', 'the newest version', retries);
    if (typeof versionNumber === 'number' && Number.isSafeInteger(versionNumber) && versionNumber > 0)
      return versionNumber;
    throw this.unexpected('/get', 'versionNumber');
  }

  async files(version: number): Promise<RemoteFile[]> {
    const files = new Map<string, RemoteFile>();
    const seen = new Set<string>();
    for (let page = ''; ;) {
      const query = `page_size=100${page && `&page_token=${encodeURIComponent(page)}`}`;
      const list = await this.ask(`/${version}/files?${query}`, 'the list of files');
      if (!Array.isArray(list.files)) throw this.unexpected('/files', 'files');
      for (const entry of list.files as unknown[]) {
        const {name: path, size} = isObject(entry) ? entry : {};
        if (typeof path !== 'string' || !isSafePath(path)) throw this.unexpected('/files', 'a usable name of a file');
        // Kaggle returns zero if it does not know.
        const known = typeof size === 'number' && size > 0 ? size : undefined;
        files.set(path, {path, url: this.urlOf(version, path), size: known, checksum: undefined});
      }
      page = typeof list.nextPageToken === 'string' ? list.nextPageToken : '';
      if (page === '') break;
      if (seen.has(page)) throw this.unexpected('/files', 'an end of the list');
      seen.add(page);
    }
    if (files.size > 0) return [...files.values()];
    throw new ValueError(`Expected files in ${nameFor({...this.handle, version})}. Received: none.`);
  }

  private async ask(path: string, what: string, retries?: number): Promise<Record<string, unknown>> {
    const {response, text} = await this.requests.text(this.base + path, {
      ...(this.headers && {credentials: this.headers}),
      headers: {Accept: 'application/json'},
      ...(retries !== undefined && {retries}),
    });
    if (response.status !== 200) throw refusal(this.handle, what, response, haveCredentials(this.headers));
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch {
      // For example the sign-in page of a network.
    }
    if (isObject(answer)) return answer;
    throw this.unexpected(path, 'JSON');
  }

  private unexpected(path: string, expected: string): Error {
    return new Error(
      `Expected ${expected} from ${nameOf(this.base + path)}. Received: something else. Check that this is Kaggle's ` +
        'API, and that the network has no sign-in page in between.',
    );
  }
}

async function find(name: string, request: HubRequest): Promise<HubModel> {
  const {offline, requests} = request;
  const handle = parse(name);
  const present = await cached(handle);
  const isComplete = (await present?.isComplete()) ?? false;
  if (present && (offline || (isComplete && handle.version !== undefined))) return fromCache(present);
  if (offline) {
    throw new ValueError(
      `Expected ${name} in the cache ${kaggleCache()}, since downloads are switched off. Received: a cache without ` +
        'it. Allow downloads once, or copy its folder there.',
    );
  }
  const api = new KaggleApi(handle, requests, headersFor(await kaggleCredentials(), request));
  let version: number;
  try {
    version = handle.version ?? (await api.newestVersion(isComplete ? 1 : undefined));
  } catch (error) {
    if (error instanceof Unreachable && isComplete) return fromCache(present!);
    throw error;
  }
  const shelf = new KaggleShelf({...handle, version});
  if (await shelf.isComplete()) return fromCache(shelf);
  return {
    name: nameFor(shelf.handle),
    shelf,
    root: '',
    files: await api.files(version),
    ...(api.headers && {headers: api.headers}),
    refused: ({path}, response) => refusal(shelf.handle, `file "${path}"`, response, haveCredentials(api.headers)),
  };
}

const handleOf = (name: string): KaggleHandle => parse(name) as KaggleHandle;

async function list(): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  const walk = async (folder: string, names: readonly string[]): Promise<void> => {
    const folders = (await store.entries(folder)).filter(({isFolder}) => isFolder).map(({name}) => name);
    if (names.length < 4) {
      for (const name of folders) if (!name.startsWith('.')) await walk(`${folder}/${name}`, [...names, name]);
      return;
    }
    const [owner, model, framework, variation] = names as [string, string, string, string];
    // A version without any complete file has only a folder of unfinished ones.
    const versions = new Set(
      folders.map(name => /^(?:(\d+)|\.(\d+)\.part)$/.exec(name)).map(found => found?.[1] ?? found?.[2]),
    );
    for (const version of versions) {
      if (version === undefined) continue;
      const shelf = new KaggleShelf({owner, model, framework, variation, version: Number(version)});
      const bytes = (await bytesBelow(shelf.folder)) + (await bytesBelow(shelf.partials));
      models.push({name: nameFor(shelf.handle), folder: shelf.folder, bytes, complete: await shelf.isComplete()});
    }
  };
  await walk(`${kaggleCache()}/models`, []);
  return models;
}

async function remove({name}: CachedModel): Promise<void> {
  const shelf = new KaggleShelf(handleOf(name));
  // The mark first: without it, a half-removed folder is ignored.
  const {mark, marks, record, folder, partials, lock} = shelf;
  await whileNotDownloaded(name, lock, async () => {
    for (const path of [mark, marks, record, folder, partials]) await store.remove(path);
  });
  await store.removeEmpty(`${variationFolder(shelf.handle)}/.complete`, kaggleCache());
}

async function verify({name}: CachedModel, repair: boolean, signal?: AbortSignal): Promise<Verified> {
  const shelf = new KaggleShelf(handleOf(name));
  const {files} = await readRecord(shelf.record);
  const paths = new Set([...Object.keys(files), ...(await filesBelow(shelf.folder))]);
  const removeMarked = (path: string, place: string) =>
    whileNotDownloaded(name, shelf.lock, async () => {
      for (const one of [shelf.mark, shelf.markOf(path), place]) await store.remove(one);
    });
  return compareAll(
    [...paths].map(path => [path, `${shelf.folder}/${path}`, files[path]]),
    repair ? removeMarked : undefined,
    signal,
  );
}

export const kaggle: Hub = {schemes: ['kaggle'], example: EXAMPLE, find, list, remove, verify};

/**
 * Hugging Face: `hf://owner/name`. Requests are made here and not by the package @huggingface/hub: its downloads
 * restart at the first byte, report no progress and compare no checksums, and its cache folders are named differently
 * from huggingface_hub's.
 */
import * as store from '#platform/store';
import {ValueError} from '../base/errors';
import {isObject} from '../base/json';
import {isSafePath} from '../base/safe_path';
import {whileNotDownloaded} from './alone';
import {
  type CachedModel,
  type Checksum,
  haveCredentials,
  headersFor,
  type Hub,
  type HubModel,
  type HubRequest,
  type RemoteFile,
  type Verified,
} from './hub';
import {HUGGING_FACE_EXAMPLE, type HuggingFaceName, huggingFaceNameOf, parseHuggingFaceName} from './huggingface_name';
import {
  cachedCommit,
  huggingFaceCache,
  HuggingFaceShelf,
  huggingFaceToken,
  lockFolder,
  lockOf,
  repositoryFolder,
} from './huggingface_shelf';
import {bytesBelow, compareAll, filesBelow} from './record';
import {nameOf, type Requests, Unreachable} from './requests';
import {isWanted} from './select_files';

/** The server; a mirror, if the environment names one. */
const endpoint = () => (store.environment('HF_ENDPOINT') ?? 'https://huggingface.co').replace(/\/+$/, '');

const isCommit = (revision: string) => /^[0-9a-f]{40}$/.test(revision);

const isFile = (root: string) => /\.(gguf|keras|safetensors|h5)$/i.test(root);

/** The error for an answer with a status that refuses access. Says what to do. */
function refusal(name: HuggingFaceName, what: string, {status, headers}: Response, hasToken: boolean): Error {
  const page = `${endpoint()}/${name.id}`;
  const code = headers.get('x-error-code');
  const expected = `Expected ${what} of ${huggingFaceNameOf(name)} from Hugging Face. Received: HTTP ${status}`;
  const token = `create a token at ${endpoint()}/settings/tokens, and set HF_TOKEN or run "hf auth login"`;
  if (code === 'GatedRepo' || (status === 403 && code === null)) {
    return new ValueError(
      `${expected}: access to this model is granted on its page. Open ${page} in a browser, sign in and accept the ` +
        `terms${hasToken ? '. If you have, check that the token may read gated models' : `. Then ${token}`}.`,
    );
  }
  if (code === 'RevisionNotFound') {
    return new ValueError(
      `${expected}: there is no revision "${name.revision}". See ${page}/tree/main for its branches.`,
    );
  }
  if (code === 'EntryNotFound') return new ValueError(`${expected}: there is no such file. See ${page}/tree/main.`);
  if (status === 401 || status === 403 || status === 404) {
    const advice = hasToken
      ? 'check the name, and what the token may read'
      : `check the name; for a private model, ${token}`;
    return new ValueError(`${expected}: there is no such model, or it is private. To see it, ${advice}.`);
  }
  return new Error(`${expected}. Try again later.`);
}

class HuggingFaceApi {
  constructor(
    private readonly name: HuggingFaceName,
    private readonly requests: Requests,
    readonly headers: Record<string, string> | undefined,
  ) {}

  private get base(): string {
    return `${endpoint()}/api/models/${this.name.id}`;
  }

  /** The commit that the revision refers to. */
  async commit(retries?: number): Promise<string> {
    const address = `${this.base}/revision/${encodeURIComponent(this.name.revision)}`;
    const {answer} = await this.ask(address, 'the commit', retries);
    if (isObject(answer) && typeof answer.sha === 'string' && isCommit(answer.sha)) return answer.sha;
    throw this.unexpected(address, 'a commit');
  }

  /** All files of the repository. */
  async files(commit: string): Promise<RemoteFile[]> {
    const files: RemoteFile[] = [];
    const seen = new Set<string>();
    for (let address = `${this.base}/tree/${commit}?recursive=true`; ;) {
      if (seen.has(address)) throw this.unexpected(address, 'an end of the list');
      seen.add(address);
      const {answer, response} = await this.ask(address, 'the list of files');
      if (!Array.isArray(answer)) throw this.unexpected(address, 'a list of files');
      for (const entry of answer as unknown[]) {
        if (isObject(entry) && entry.type === 'directory') continue;
        const file = this.file(entry, commit);
        if (!file) throw this.unexpected(address, 'files with path, size and checksum');
        files.push(file);
      }
      const [, next] = /<([^>]+)>\s*;\s*rel="next"/.exec(response.headers.get('link') ?? '') ?? [];
      if (next === undefined) return files;
      // Through a mirror, the next page may be named at the hub itself. The mirror has it as well.
      const {pathname, search} = new URL(next, address);
      address = new URL(endpoint()).origin + pathname + search;
    }
  }

  private file(entry: unknown, commit: string): RemoteFile | undefined {
    if (!isObject(entry) || typeof entry.path !== 'string' || !isSafePath(entry.path)) return undefined;
    const {path, size, oid, lfs} = entry;
    const large = isObject(lfs) ? lfs : undefined;
    const bytes = large ? large.size : size;
    const checksum: Checksum = large
      ? {kind: 'sha256', value: String(large.oid).replace(/^sha256:/, '')}
      : {kind: 'git', value: String(oid)};
    const isChecksum = (large ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/).test(checksum.value);
    if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 0 || !isChecksum) return undefined;
    const escaped = path.split('/').map(encodeURIComponent).join('/');
    return {path, url: `${endpoint()}/${this.name.id}/resolve/${commit}/${escaped}`, size: bytes, checksum};
  }

  private async ask(address: string, what: string, retries?: number): Promise<{answer: unknown; response: Response}> {
    const {response, text} = await this.requests.text(address, {
      ...(this.headers && {credentials: this.headers}),
      headers: {Accept: 'application/json'},
      ...(retries !== undefined && {retries}),
    });
    if (response.status !== 200) throw refusal(this.name, what, response, haveCredentials(this.headers));
    try {
      return {answer: JSON.parse(text) as unknown, response};
    } catch {
      throw this.unexpected(address, 'JSON');
    }
  }

  private unexpected(address: string, expected: string): Error {
    return new Error(
      `Expected ${expected} from ${nameOf(address)}. Received: something else. Check that HF_ENDPOINT, if it is set, ` +
        'names a server with the API of Hugging Face, and that the network has no sign-in page in between.',
    );
  }
}

/** The files of a repository that a name refers to. */
function chosen(name: HuggingFaceName, all: readonly RemoteFile[]): RemoteFile[] {
  const {root} = name;
  if (isFile(root)) {
    // A large GGUF file is divided into several; each of their names refers to all of them.
    const [, start, end] = /^(.*-)\d{5}(-of-\d{5}\.gguf)$/.exec(root) ?? [];
    const isPart = (path: string) =>
      start !== undefined && path.startsWith(start) && path.endsWith(end!) && path.length === root.length;
    const files = all.filter(({path}) => path === root || isPart(path));
    if (files.some(({path}) => path === root)) return files;
  } else {
    const below = all.filter(({path}) => root === '' || path.startsWith(`${root}/`));
    const inside = (path: string) => (root === '' ? path : path.slice(root.length + 1));
    const wanted = below.filter(({path}) => isWanted(inside(path)));
    if (wanted.some(({path}) => /\.(safetensors|h5|keras|spm|model|bin)$|(^|\/)tokenizer\.json$/.test(path)))
      return wanted;
    const archives = below.filter(({path}) => /\.gguf$/i.test(path)).map(({path}) => path);
    if (archives.length > 0) {
      const named = (paths: readonly string[]) =>
        `${paths
          .slice(0, 8)
          .map(path => huggingFaceNameOf({...name, root: path}))
          .join(', ')}${paths.length > 8 ? '…' : '.'}`;
      const [models, visions] = [
        archives.filter(path => !/mmproj/i.test(path)),
        archives.filter(path => /mmproj/i.test(path)),
      ];
      throw new ValueError(
        `Expected a model in ${huggingFaceNameOf(name)}. Received: GGUF files, each of which is a model. Name one of ` +
          `them: ${named(models.length ? models : archives)}` +
          (visions.length ? ` For images, also pass the vision encoder as \`mmproj\`: ${named(visions)}` : ''),
      );
    }
    if (wanted.length > 0) return wanted;
  }
  throw new ValueError(
    `Expected ${isFile(root) ? `file "${root}"` : 'files of a model'} in ${huggingFaceNameOf({...name, root: ''})}` +
      `${root && !isFile(root) ? `, folder "${root}"` : ''}. Received: ${all.length} other files. See ` +
      `${endpoint()}/${name.id}/tree/${name.revision}.`,
  );
}

async function find(text: string, request: HubRequest): Promise<HubModel> {
  const {offline, requests} = request;
  const name = parseHuggingFaceName(text);
  const {id, revision, root} = name;
  const shelfOf = (commit: string) => new HuggingFaceShelf(id, commit, revision, root);
  const fromCache = (shelf: HuggingFaceShelf): HubModel => ({name: huggingFaceNameOf(name), shelf, root, files: null});

  const known = isCommit(revision) ? revision : await cachedCommit(id, revision);
  const present = known !== undefined && isCommit(known) ? shelfOf(known) : undefined;
  const isComplete = (await present?.isComplete()) ?? false;
  if (present && isComplete && isCommit(revision)) return fromCache(present);
  if (offline) {
    if (present && (await store.entries(present.folder)).length > 0) return fromCache(present);
    throw new ValueError(
      `Expected ${huggingFaceNameOf(name)} in the cache ${huggingFaceCache()}, since downloads are switched off. ` +
        'Received: a cache without it. Allow downloads once, or copy its folder there.',
    );
  }
  const token = await huggingFaceToken();
  const credentials = token === undefined ? undefined : {Authorization: `Bearer ${token}`};
  const api = new HuggingFaceApi(name, requests, headersFor(credentials, request));
  let commit: string;
  try {
    commit = isCommit(revision) ? revision : await api.commit(isComplete ? 1 : undefined);
  } catch (error) {
    if (error instanceof Unreachable && isComplete) return fromCache(present!);
    throw error;
  }
  const shelf = shelfOf(commit);
  if (await shelf.isComplete()) {
    // The branch has moved to a commit that is already in the cache. A cache that cannot be written can still be read.
    await shelf.writeRef().catch(() => {});
    return fromCache(shelf);
  }
  return {
    name: huggingFaceNameOf(name),
    shelf,
    root,
    files: chosen(name, await api.files(commit)),
    ...(api.headers && {headers: api.headers}),
    refused: ({path}, response) => refusal(name, `file "${path}"`, response, haveCredentials(api.headers)),
  };
}

async function list(): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  for (const {name: entry, isFolder} of await store.entries(huggingFaceCache())) {
    const [, owner, repository] = /^models--([\w.-]+?)--([\w.-]+)$/.exec(entry) ?? [];
    if (!isFolder || owner === undefined) continue;
    const id = `${owner}/${repository}`;
    const folder = repositoryFolder(id);
    const snapshots = (await store.entries(`${folder}/snapshots`)).filter(({isFolder}) => isFolder);
    const unfinished = (await store.entries(`${folder}/blobs`)).some(({name}) => /\.(part|incomplete)$/.test(name));
    const commit = (await cachedCommit(id, 'main')) ?? snapshots[0]?.name;
    models.push({
      name: `hf://${id}`,
      folder: commit === undefined ? folder : `${folder}/snapshots/${commit}`,
      bytes: await bytesOf(folder),
      complete: snapshots.length > 0 && !unfinished,
    });
  }
  return models;
}

/** Bytes of a repository. Where links are not possible, the files are in the snapshots instead of the blobs. */
async function bytesOf(folder: string): Promise<number> {
  let bytes = await bytesBelow(`${folder}/blobs`);
  for (const path of await filesBelow(`${folder}/snapshots`)) {
    const place = `${folder}/snapshots/${path}`;
    const real = await store.realPath(place);
    if (real !== undefined && !/[\\/]blobs[\\/][^\\/]+$/.test(real)) bytes += (await store.fileSize(place)) ?? 0;
  }
  return bytes;
}

async function remove({name}: CachedModel): Promise<void> {
  const {id} = parseHuggingFaceName(name);
  const folder = repositoryFolder(id);
  await whileNotDownloaded(name, lockOf(id), async () => {
    // Names of commits first: without them, a half-removed folder is ignored.
    for (const part of ['refs', 'tfjs-gemma3', 'snapshots']) await store.remove(`${folder}/${part}`);
    await store.remove(folder);
  });
  // Other tools may have locks of their own there.
  await store.removeEmpty(lockFolder(id), huggingFaceCache());
}

async function verify({name}: CachedModel, repair: boolean, signal?: AbortSignal): Promise<Verified> {
  const {id} = parseHuggingFaceName(name);
  const folder = repositoryFolder(id);
  // The name of a blob is its checksum.
  const files: (readonly [string, string, {size: number; checksum: Checksum} | undefined])[] = [];
  for (const path of await filesBelow(`${folder}/snapshots`)) {
    const place = `${folder}/snapshots/${path}`;
    const real = (await store.realPath(place)) ?? place;
    const [, value] = /([0-9a-f]{64}|[0-9a-f]{40})$/.exec(real) ?? [];
    const size = (await store.fileSize(real)) ?? 0;
    const kind = value?.length === 64 ? 'sha256' : 'git';
    const record = value === undefined || real === place ? undefined : {size, checksum: {kind, value} as const};
    files.push([path.replace(/^[^/]*\//, ''), place, record]);
  }
  const removeBoth = (_path: string, place: string) =>
    whileNotDownloaded(name, lockOf(id), async () => {
      const blob = await store.realPath(place);
      await store.remove(place);
      if (blob !== undefined) await store.remove(blob);
    });
  return compareAll(files, repair ? removeBoth : undefined, signal);
}

export const huggingFace: Hub = {schemes: ['hf'], example: HUGGING_FACE_EXAMPLE, find, list, remove, verify};

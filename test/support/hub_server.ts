/**
 * Local imitations of the APIs of Kaggle and Hugging Face, with a storage host at another address, as both have. Written
 * after the sources of kagglehub, kagglesdk and huggingface_hub.
 */
import {createHash} from 'node:crypto';
import {createServer, type IncomingMessage, type Server, type ServerResponse} from 'node:http';
import {type AddressInfo} from 'node:net';

export const SECRET = 'secret-of-the-user';
export const SIGNATURE = 'signature-of-an-address';
export const COMMIT = '0123456789abcdef0123456789abcdef01234567';

/** What goes wrong with an answer. A number is a status. */
export type Fault =
  | number
  | 'cut' // The connection ends before the answer.
  | 'half' // It ends in the middle of the body.
  | 'late' // The answer does not come.
  | 'stalled' // The body stops in the middle.
  | 'wrong' // One byte is another one.
  | 'short' // The body is shorter than it should be, and the length says so.
  | 'long' // The body is longer than it should be.
  | 'moved' // The range starts elsewhere, and the answer says so.
  | 'whole' // The whole file instead of a range.
  | 'resized' // The range is of a file of another size.
  | 'nowhere' // A range that does not say which.
  | 'page' // A web page.
  | 'elsewhere'; // A redirect to another host, which has nothing.

export const FAULTS: readonly Fault[] = [
  'cut', 'half', 'late', 'stalled', 'wrong', 'short', 'long', 'moved', 'whole', 'resized', 'nowhere', 'page', 'elsewhere',
  403, 404, 416, 429, 500, 502, 503,
]; // prettier-ignore

export interface Asked {
  readonly host: 'hub' | 'storage' | 'other';
  readonly method: string;
  readonly path: string;
  readonly range: string | undefined;
  readonly authorization: string | undefined;
}

type Files = Readonly<Record<string, Uint8Array>>;

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const md5 = (bytes: Uint8Array) => createHash('md5').update(bytes).digest('base64');
export const gitHash = (bytes: Uint8Array): string =>
  createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');

export class HubServer {
  /** Files of each repository of Hugging Face, by owner and name. */
  readonly repositories: Record<string, Files> = {};
  /** Files of each version on Kaggle, by `owner/model/framework/variation/version`. */
  readonly versions: Record<string, Files> = {};
  /** Names that may not be read without the user's credentials, or at all. */
  readonly gated = new Map<string, 'credentials' | 'everyone'>();
  readonly asked: Asked[] = [];
  /** What goes wrong with a request for a file. */
  fault: (asked: Asked) => Fault | undefined = () => undefined;
  /** The commit of the branch "main". */
  commit = COMMIT;
  /** Whether storage answers with ranges. */
  ranges = true;
  /** Whether files have `Content-Length`. */
  lengths = true;
  /** Milliseconds between two pieces of a body. */
  pace = 0;
  private readonly servers: Server[] = [];
  private readonly waiting = new Set<ServerResponse>();
  hub = '';
  storage = '';
  other = '';

  async start(): Promise<this> {
    this.hub = await this.listen('hub', (asked, response) => this.answerHub(asked, response));
    this.storage = await this.listen('storage', (asked, response) => this.answerStorage(asked, response));
    this.other = await this.listen('other', (_asked, response) => void response.writeHead(404).end());
    return this;
  }

  async stop(): Promise<void> {
    for (const response of this.waiting) response.destroy();
    for (const server of this.servers) {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    }
  }

  /** Requests for the bytes of files. */
  get downloads(): Asked[] {
    return this.asked.filter(({path}) => /\/(resolve|download|blobs)\//.test(path));
  }

  private async listen(host: Asked['host'], answer: (asked: Asked, response: ServerResponse) => void): Promise<string> {
    const server = createServer((request: IncomingMessage, response: ServerResponse) => {
      const {method = '', url = '', headers} = request;
      const asked: Asked = {host, method, path: url, range: headers.range, authorization: headers.authorization};
      this.asked.push(asked);
      answer(asked, response);
    });
    this.servers.push(server);
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  private answerHub(asked: Asked, response: ServerResponse): void {
    const {pathname, searchParams} = new URL(asked.path, this.hub);
    const path = decodeURIComponent(pathname);
    const json = (value: unknown, headers: Record<string, string> = {}) =>
      void response.writeHead(200, {'Content-Type': 'application/json', ...headers}).end(JSON.stringify(value));
    const none = (status: number, code?: string) =>
      void response
        .writeHead(status, {'Content-Type': 'application/json', ...(code && {'X-Error-Code': code})})
        .end(JSON.stringify({message: 'refused'}));

    const [, id, revision] = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/(.+)$/.exec(path) ?? [];
    if (id !== undefined) {
      if (!this.repositories[id]) return none(asked.authorization ? 404 : 401, 'RepoNotFound');
      if (!['main', 'refs/pr/1', this.commit].includes(revision!)) return none(404, 'RevisionNotFound');
      return json({id, sha: this.commit});
    }
    const [, listed] = /^\/api\/models\/([^/]+\/[^/]+)\/tree\//.exec(path) ?? [];
    if (listed !== undefined) {
      const all = Object.entries(this.repositories[listed] ?? {});
      const from = Number(searchParams.get('cursor') ?? 0);
      const entries = all.slice(from, from + 5).map(([path, bytes]) => ({
        type: 'file',
        path,
        size: bytes.length,
        oid: gitHash(bytes),
        ...(/\.(safetensors|h5|gguf|spm)$/.test(path) && {
          lfs: {oid: sha256(bytes), size: bytes.length, pointerSize: 134},
          xetHash: 'f'.repeat(64),
        }),
      }));
      const next = `<https://huggingface.co${pathname}?recursive=true&cursor=${from + 5}>; rel="next"`;
      return json(
        [{type: 'directory', oid: 'x', size: 0, path: 'folder'}, ...entries],
        from + 5 < all.length ? {Link: next} : {},
      );
    }
    const [, repository, file] = /^\/([^/]+\/[^/]+)\/resolve\/[^/]+\/(.+)$/.exec(path) ?? [];
    if (repository !== undefined && this.repositories[repository]) {
      const gate = this.gated.get(repository);
      if (gate === 'everyone' || (gate && asked.authorization !== `Bearer ${SECRET}`)) return none(403, 'GatedRepo');
      const bytes = this.repositories[repository]?.[file!];
      if (!bytes) return none(404, 'EntryNotFound');
      const linked = {'X-Repo-Commit': COMMIT, 'X-Linked-Size': bytes.length, 'X-Linked-Etag': `"${sha256(bytes)}"`};
      if (!/\.(safetensors|h5|gguf|spm)$/.test(file!))
        return this.sendFile(asked, response, bytes, {'X-Repo-Commit': COMMIT, ETag: `"${gitHash(bytes)}"`});
      return this.redirect(asked, response, `/blobs/hf/${repository}/${file!}?X-Amz-Signature=${SIGNATURE}`, linked);
    }

    const [, handle, rest = ''] = /^\/api\/v1\/models\/([^/]+\/[^/]+\/[^/]+\/[^/]+)(\/.*)$/.exec(path) ?? [];
    if (handle !== undefined) {
      const gate = this.gated.get(handle);
      if (gate === 'everyone' || (gate && asked.authorization !== `Bearer ${SECRET}`)) return none(403);
      const numbers = Object.keys(this.versions)
        .filter(version => version.startsWith(`${handle}/`))
        .map(version => Number(version.split('/').at(-1)));
      if (rest === '/get') return numbers.length ? json({versionNumber: Math.max(...numbers)}) : none(404);
      const [, version, what, name] = /^\/(\d+)\/(files|download)(?:\/(.+))?$/.exec(rest) ?? [];
      const files = this.versions[`${handle}/${version}`];
      if (!files) return none(404);
      if (what === 'files') {
        const all = Object.entries(files).map(([name, bytes]) => ({
          name,
          size: bytes.length,
          creationDate: '2025-03-12',
        }));
        const from = Number(searchParams.get('page_token') ?? 0);
        return json({files: all.slice(from, from + 3), nextPageToken: from + 3 < all.length ? String(from + 3) : ''});
      }
      if (!files[name!]) return none(404);
      return this.redirect(
        asked,
        response,
        `/blobs/kaggle/${handle}/${version}/${name!}?X-Goog-Signature=${SIGNATURE}`,
      );
    }
    none(404);
  }

  private redirect(
    asked: Asked,
    response: ServerResponse,
    path: string,
    headers: Record<string, string | number> = {},
  ): void {
    if (this.fault({...asked, path: 'redirect'}) === 'elsewhere') {
      return void response.writeHead(302, {...headers, Location: `${this.other}/?X-Signature=${SIGNATURE}`}).end();
    }
    response.writeHead(302, {...headers, Location: this.storage + path}).end();
  }

  private answerStorage(asked: Asked, response: ServerResponse): void {
    const {pathname, searchParams} = new URL(asked.path, this.storage);
    const [, kind, path = ''] = /^\/blobs\/(hf|kaggle)\/(.+)$/.exec(decodeURIComponent(pathname)) ?? [];
    const parts = path.split('/');
    const at = kind === 'hf' ? 2 : 5;
    const name = parts.slice(0, at).join('/');
    const bytes = (kind === 'hf' ? this.repositories : this.versions)[name]?.[parts.slice(at).join('/')];
    const isSigned = [...searchParams.values()].includes(SIGNATURE);
    if (!bytes || !isSigned) return void response.writeHead(403, {'Content-Type': 'application/xml'}).end('<Error/>');
    this.sendFile(
      asked,
      response,
      bytes,
      kind === 'kaggle' ? {'X-Goog-Hash': `crc32c=AAAAAA==,md5=${md5(bytes)}`} : {},
    );
  }

  private sendFile(asked: Asked, response: ServerResponse, bytes: Uint8Array, headers: Record<string, string>): void {
    const fault = this.fault(asked);
    if (fault === 'cut') return void response.destroy();
    if (fault === 'late') return void this.waiting.add(response);
    if (fault === 'elsewhere') return void response.writeHead(302, {Location: `${this.other}/`}).end();
    if (fault === 'page')
      return void response.writeHead(200, {'Content-Type': 'text/html'}).end('<!doctype html><p>Sign in');
    if (typeof fault === 'number') {
      const retry = fault === 429 ? {'Retry-After': '1'} : {};
      return void response.writeHead(fault, {'Content-Type': 'text/plain', ...retry}).end('no');
    }
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(asked.range ?? '') ?? [];
    const isRange = first !== undefined && this.ranges && fault !== 'whole';
    let start = isRange ? Number(first) : 0;
    const end = isRange ? Math.min(Number(last) + 1, bytes.length) : bytes.length;
    if (isRange && start >= bytes.length) {
      return void response.writeHead(416, {'Content-Range': `bytes */${bytes.length}`}).end();
    }
    if (fault === 'moved' && isRange) start = Math.max(0, start - 7) || Math.min(3, end - 1);
    let body = Uint8Array.from(bytes.subarray(start, end));
    if (fault === 'wrong' && body.length > 0) body[body.length >> 1]! ^= 0x55;
    const range = `bytes ${start}-${end - 1}/${fault === 'resized' ? bytes.length + 5 : bytes.length}`;
    if (fault === 'short') body = body.subarray(0, body.length >> 1);
    if (fault === 'long') body = Uint8Array.from([...body, 1, 2, 3]);
    response.writeHead(isRange ? 206 : 200, {
      ...headers,
      'Content-Type': 'application/octet-stream',
      'Accept-Ranges': 'bytes',
      ...(isRange && fault !== 'nowhere' && {'Content-Range': range}),
      ...(this.lengths && {'Content-Length': fault === 'half' || fault === 'stalled' ? body.length + 1 : body.length}),
    });
    if (fault === 'half')
      return void response.write(body.subarray(0, body.length >> 1), () => setTimeout(() => response.destroy(), 5));
    if (fault === 'stalled') {
      this.waiting.add(response);
      return void response.write(body.subarray(0, body.length >> 1));
    }
    if (this.pace === 0) return void response.end(body);
    const piece = 16 * 1024;
    const step = (at: number): void => {
      if (response.destroyed) return;
      if (at >= body.length) return void response.end();
      response.write(body.subarray(at, at + piece));
      setTimeout(() => step(at + piece), this.pace);
    };
    step(0);
  }
}

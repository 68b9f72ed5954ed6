/** A local file server with the behaviour of various servers. Tests in Node and in browsers use it, and the benchmark. */
import {readFileSync, statSync} from 'node:fs';
import {createServer, type IncomingMessage, type ServerResponse} from 'node:http';
import {type AddressInfo} from 'node:net';
import {join} from 'node:path';
import {gzipSync} from 'node:zlib';

/**
 * What goes wrong with a request: the connection is cut at once or in the middle of the body, nothing more comes from the
 * middle on, or a status.
 */
export type Fault = 'cut' | 'half' | 'stall' | number;

export interface Habits {
  /** Answers range requests. Defaults to true. */
  ranges?: boolean;
  /** Sends a web page with status 200 for whatever is missing, as hosts of single-page apps do. */
  page?: boolean;
  /** Compresses files whose path matches, if no range is requested. */
  gzip?: RegExp;
  /** Lets pages of other origins read files, and these headers of answers. Undefined: lets them read nothing. */
  cors?: readonly string[];
  /** Status of answers to HEAD, where it is refused. */
  head?: number;
  /** Sends no Content-Length and no Content-Range. */
  noLength?: boolean;
  /** Milliseconds before each answer. */
  delay?: number;
  /** The value of the parameter `token` that every address must have. */
  token?: string;
  /** The value of the header Authorization that every request must have. */
  authorization?: string;
  /** What goes wrong with request `n`, counted from 1. */
  fault?: (n: number, path: string) => Fault | undefined;
  /** Retry-After of faults, in seconds. */
  retryAfter?: number;
  /** ETag of the answer to request `n`. */
  etag?: (n: number) => string;
}

/** Servers from which a preset must load: descriptions, their behaviour, and additions to the address. */
export const HABITS: [string, Habits, string][] = [
  ['plain', {}, ''],
  ['a page for what is missing', {page: true}, ''],
  ['a page for what is missing, no ranges', {page: true, ranges: false}, ''],
  ['compressed', {gzip: /./}, ''],
  ['compressed, no ranges', {gzip: /./, ranges: false}, ''],
  ['no lengths', {noLength: true}, ''],
  ['no HEAD', {head: 405}, ''],
  ['a token', {token: 'abc'}, '?token=abc'],
  ['a slash, a token and a fragment', {token: 'abc'}, '/?token=abc#main'],
  ['a fragment', {}, '#main'],
  ['every third request cut', {fault: n => (n % 3 === 0 ? 'cut' : undefined)}, ''],
  ['every third request cut in the middle', {fault: n => (n % 3 === 0 ? 'half' : undefined)}, ''],
  ['too many requests', {fault: n => (n === 2 ? 429 : undefined), retryAfter: 0}, ''],
  ['one 503', {fault: n => (n === 3 ? 503 : undefined)}, ''],
];

/** What a browser's `fetch` shows of an answer from another origin that exposes no further headers. */
const SHOWN = [
  'cache-control',
  'content-language',
  'content-length',
  'content-type',
  'expires',
  'last-modified',
  'pragma',
];

/** `fetch` as pages have it for other origins that expose none of their headers. */
export const fetchOfOtherOrigin: typeof fetch = async (...args) => {
  const answer = await fetch(...args);
  const headers = [...answer.headers].filter(([name]) => SHOWN.includes(name));
  return new Response(answer.body, {status: answer.status, headers});
};

const PAGE = '<!DOCTYPE html>\n<html lang="en"><title>App</title><div id="app"></div></html>\n';

/** Files: a folder, or bytes by path. */
export type Served = string | Record<string, Uint8Array>;

function bytesOf(files: Served, path: string): Uint8Array | undefined {
  if (typeof files !== 'string') return files[path.slice(1)];
  const place = join(files, path);
  return statSync(place, {throwIfNoEntry: false})?.isFile() ? readFileSync(place) : undefined;
}

export interface FileServer {
  readonly address: string;
  /** Method, path and range of each request. */
  readonly log: string[];
  close(): Promise<void>;
}

function corsHeaders({cors}: Habits): Record<string, string> {
  if (!cors) return {};
  return {'access-control-allow-origin': '*', 'access-control-expose-headers': cors.join(', ')};
}

/** Serves files from 127.0.0.1. */
export async function serveFiles(files: Served, habits: Habits = {}): Promise<FileServer> {
  const log: string[] = [];
  const answer = (request: IncomingMessage, response: ServerResponse): unknown => {
    const {pathname, searchParams} = new URL(request.url!, 'http://localhost');
    const path = decodeURIComponent(pathname);
    log.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim());
    const common: Record<string, string> = corsHeaders(habits);
    const fault = habits.fault?.(log.length, path);
    if (fault === 'cut') return response.destroy();
    if (typeof fault === 'number') {
      if (habits.retryAfter !== undefined) common['retry-after'] = String(habits.retryAfter);
      return response.writeHead(fault, common).end();
    }
    if (request.method === 'OPTIONS') {
      return response.writeHead(204, {...common, 'access-control-allow-headers': '*, authorization, range'}).end();
    }
    if (request.method === 'HEAD' && habits.head) return response.writeHead(habits.head, common).end();
    const {token, authorization} = habits;
    if (token !== undefined && searchParams.get('token') !== token) return response.writeHead(403, common).end();
    if (authorization !== undefined && request.headers.authorization !== authorization) {
      return response.writeHead(401, common).end();
    }
    const whole = bytesOf(files, path) ?? (habits.page ? Buffer.from(PAGE) : undefined);
    if (!whole) return response.writeHead(404, common).end();
    const asked = habits.ranges === false ? null : /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
    const from = asked ? Number(asked[1]) : 0;
    const to = asked ? Math.min(Number(asked[2]) + 1, whole.length) : whole.length;
    if (asked && from >= whole.length) {
      return response.writeHead(416, {...common, 'content-range': `bytes */${whole.length}`}).end();
    }
    const encoded = !asked && habits.gzip?.test(path) && /gzip/.test(String(request.headers['accept-encoding']));
    const body = encoded ? gzipSync(whole) : whole.subarray(from, to);
    const range = asked && !habits.noLength && {'content-range': `bytes ${from}-${to - 1}/${whole.length}`};
    response.writeHead(asked ? 206 : 200, {
      ...common,
      ...(path.endsWith('.json') && {'content-type': 'application/json'}),
      ...(encoded && {'content-encoding': 'gzip', vary: 'accept-encoding'}),
      ...(!habits.noLength && {'content-length': body.length}),
      ...range,
      ...(habits.etag && {etag: habits.etag(log.length)}),
    });
    if (request.method === 'HEAD') return response.end();
    if (fault === 'stall') return response.write(body.subarray(0, body.length >> 1));
    if (fault !== 'half') return response.end(body);
    return response.write(body.subarray(0, body.length >> 1), () => setTimeout(() => response.destroy(), 20));
  };
  const server = createServer((request, response) => {
    if (habits.delay) setTimeout(() => answer(request, response), habits.delay);
    else answer(request, response);
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    log,
    close: async () => {
      server.closeAllConnections();
      await new Promise(resolve => server.close(resolve));
    },
  };
}

/** Runs `run` with a server, and closes it. */
export async function withFiles(
  files: Served,
  habits: Habits,
  run: (server: FileServer) => Promise<void>,
): Promise<void> {
  const server = await serveFiles(files, habits);
  try {
    await run(server);
  } finally {
    await server.close();
  }
}

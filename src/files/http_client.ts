/** Requests to servers, retried where appropriate. */
import {ValueError} from '../base/errors';

/** How to request the files of a preset at an http(s) address. */
export interface FetchOptions {
  /** Headers of every request, such as `Authorization`. */
  headers?: HeadersInit;
  /** Replaces the `fetch` of the platform. */
  fetch?: typeof fetch;
  /**
   * Called while files of a preset are downloaded into the cache; `loaded` and `total` are bytes of the files that are
   * downloaded together, `fileLoaded` and `fileTotal` those of one.
   */
  onDownload?: (progress: {
    file: string;
    loaded: number;
    total: number;
    fileLoaded: number;
    fileTotal: number | undefined;
  }) => void;
  /**
   * True: use only what is in the cache, and make no requests. An http(s) address is then one that `downloadPreset` has
   * kept a copy of. For hubs, defaults to the environment variable HF_HUB_OFFLINE.
   */
  offline?: boolean;
}

/** Options of all functions that open presets. */
export const FETCH_OPTIONS = ['headers', 'fetch', 'onDownload', 'offline'] as const;

/** Options about requests, which have no meaning for files that are not requested. */
export const REQUEST_OPTIONS = ['headers', 'fetch'] as const;

/** How to request one file at an http(s) address. */
export type RequestOptions = Pick<FetchOptions, (typeof REQUEST_OPTIONS)[number]>;

/** @throws ValueError on options for requests where no request is made, or where they are already set. */
export function checkFetched({name}: {readonly name: string}, options: FetchOptions, what = 'a preset'): void {
  const given = REQUEST_OPTIONS.filter(key => options[key] !== undefined);
  if (given.length === 0) return;
  const advice = what === 'a preset' ? ' For an open preset, pass them to `new files.HttpPreset(address, {…})`.' : '';
  throw new ValueError(
    `Expected ${given.join(' and ')} only with the http(s) address of ${what}. Received: "${name}", which is not ` +
      `opened from an address here.${advice}`,
  );
}

/** Options of `HttpPreset`. */
export interface HttpOptions extends FetchOptions {
  /** Stops requests: reading is rejected with the signal's reason. */
  signal?: AbortSignal;
}

/** Number of retries after the first try. */
const RETRIES = 3;

/** Milliseconds before the first retry. Each further one waits three times as long. */
const DELAY = 150;

/** The longest Retry-After in milliseconds that is followed; with a longer one, the request fails. */
export const LONGEST_WAIT = 60_000;

/** Statuses after which the same request may succeed later. */
export const PASSING = new Set([408, 425, 429, 500, 502, 503, 504]);

/** A failed request that is worth retrying. */
export class LostRequest extends Error {
  /**
   * @param reported what is thrown when no try is left.
   * @param wait milliseconds until the next try, if the server has said so.
   */
  constructor(
    readonly reported: Error,
    readonly wait?: number,
  ) {
    super(reported.message);
  }
}

/** Milliseconds that Retry-After asks for, as seconds or as a date. */
export function retryAfter(response: Response): number | undefined {
  const text = response.headers.get('retry-after');
  if (text === null) return undefined;
  const wait = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

export function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal!.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', stop, {once: true});
  });
}

/**
 * A signal that aborts as soon as one of these does. What `AbortSignal.any` returns may be collected as garbage in Node
 * 20, and is then never aborted. So listeners are attached here; `end` removes them.
 */
export class AnySignal {
  private readonly controller = new AbortController();
  private readonly outer: readonly AbortSignal[];
  readonly signal = this.controller.signal;

  constructor(...signals: (AbortSignal | undefined)[]) {
    this.outer = signals.filter(signal => signal !== undefined);
    for (const signal of this.outer) {
      if (signal.aborted) this.stop(signal);
      else signal.addEventListener('abort', this.listener);
    }
  }

  private readonly listener = ({target}: Event) => this.stop(target as AbortSignal);

  private stop({reason}: AbortSignal): void {
    this.controller.abort(reason);
    this.end();
  }

  /** Stops listening: what the signal is for has ended. */
  end(): void {
    for (const signal of this.outer) signal.removeEventListener('abort', this.listener);
  }
}

/**
 * Rejects with the signal's reason as soon as it is aborted, else settles as the promise does. In Node 20, a body may
 * keep waiting after the signal of its request was aborted.
 */
export async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  let stop: (() => void) | undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    stop = () => reject(signal.reason as Error);
    signal.addEventListener('abort', stop, {once: true});
    if (signal.aborted) stop();
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', stop!);
  }
}

/** Frees the connection of a response whose body is not read. */
export const discard = async (response: Response): Promise<void> => {
  await response.body?.cancel().catch(() => {});
};

/**
 * Headers of a user.
 *
 * @throws ValueError if they cannot be sent. The error does not show them, since they may hold credentials.
 */
export function userHeaders(headers: HeadersInit | undefined): Headers {
  try {
    return new Headers(headers);
  } catch {
    throw new ValueError('Expected headers that can be sent. Received other names or values.');
  }
}

export class HttpClient {
  private readonly headers: Headers;
  private readonly fetch: typeof fetch;
  readonly signal: AbortSignal | undefined;
  private readonly files = new Set<AbortController>();

  /** @throws ValueError on headers that cannot be sent, and a `fetch` that is not a function. */
  constructor({headers, fetch, signal}: HttpOptions) {
    if (fetch !== undefined && typeof fetch !== 'function') {
      throw new ValueError(`Expected fetch to be a function. Received: ${typeof fetch}.`);
    }
    this.headers = userHeaders(headers);
    // Looked up for each request, since a page may replace it.
    this.fetch = fetch ?? ((...args) => globalThis.fetch(...args));
    this.signal = signal;
  }

  /**
   * Aborts a controller as soon as the signal of all requests is. Node warns of a signal with more than ten listeners,
   * and a model may have more files, so they share one.
   */
  add(file: AbortController): void {
    if (this.signal?.aborted) file.abort(this.signal.reason);
    else if (this.files.size === 0) this.signal?.addEventListener('abort', this.stopAll);
    this.files.add(file);
  }

  /** Undoes `add`. */
  remove(file: AbortController): void {
    this.files.delete(file);
    if (this.files.size === 0) this.signal?.removeEventListener('abort', this.stopAll);
  }

  private readonly stopAll = () => {
    for (const file of this.files) file.abort(this.signal!.reason);
  };

  /**
   * Requests bytes `first` to `last` of a file, or all of it.
   *
   * @throws LostRequest if the server does not answer, or says that it cannot answer now.
   */
  async get(url: string, name: string, first?: number, last?: number, signal = this.signal): Promise<Response> {
    const headers = new Headers(this.headers);
    if (first !== undefined) headers.set('Range', `bytes=${first}-${last}`);
    let response: Response;
    try {
      response = await unlessAborted(this.request(url, headers, signal), signal);
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof ValueError) throw error;
      const {message, cause} = error as Error & {cause?: {code?: string}};
      const code = cause?.code ? ` (${cause.code})` : '';
      const reported = new Error(
        `Expected a response from ${name}. Received: ${message}${code}. Check that the server is running and allows ` +
          'requests from this origin.',
        {cause: error},
      );
      throw new LostRequest(reported);
    }
    if (!PASSING.has(response.status)) return response;
    await discard(response);
    const reported = new Error(`Expected a response from ${name}. Received: HTTP ${response.status}. Try again later.`);
    const wait = retryAfter(response);
    throw wait !== undefined && wait > LONGEST_WAIT ? reported : new LostRequest(reported, wait);
  }

  /** Sends a request, with the headers of the user to the server of the address only. */
  private async request(url: string, headers: Headers, signal: AbortSignal | undefined): Promise<Response> {
    // Chromium's cache lets one range of a file wait until another one has ended, in this tab and in others.
    const cache = headers.has('Range') ? ({cache: 'no-store'} as const) : {};
    const send = (at: string, init: RequestInit) => this.fetch(at, {...init, ...cache, signal});
    if ([...this.headers].length === 0) return send(url, {headers});
    return (await import('./http_redirects')).fetchHeadersAtHome(url, headers, send);
  }

  /**
   * Calls `run`, which must be safe to repeat, again after each {@link LostRequest} until no try is left.
   *
   * @throws what the last try reported; the signal's reason when aborted.
   */
  async retried<T>(run: () => Promise<T>, signal = this.signal): Promise<T> {
    for (let tries = 0; ; tries++) {
      signal?.throwIfAborted();
      try {
        return await run();
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof LostRequest)) throw error;
        if (tries === RETRIES) throw error.reported;
        await pause(error.wait ?? DELAY * 3 ** tries * (0.75 + Math.random() / 2), signal);
      }
    }
  }
}

/**
 * The body of a response, piece by piece: `arrayBuffer()` would hold a second copy.
 *
 * @throws LostRequest if the connection ends early.
 */
export async function* pieces(response: Response, name: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  if (!response.body) return;
  const reader = response.body.getReader();
  let complete = false;
  try {
    for (;;) {
      let next: ReadableStreamReadResult<Uint8Array>;
      try {
        next = await unlessAborted(reader.read(), signal);
      } catch (error) {
        signal?.throwIfAborted();
        const why = (error as Error).message;
        throw new LostRequest(
          new Error(`Expected the rest of ${name}. Received: ${why}. The connection ended early.`, {cause: error}),
        );
      }
      if (next.done) {
        complete = true;
        return;
      }
      yield next.value;
    }
  } finally {
    // Frees the connection. Whether that succeeds does not matter here.
    if (!complete) void reader.cancel().catch(() => {});
  }
}

/**
 * Requests to hubs. Redirects are followed here, so that credentials are sent only to the host they are for. Errors
 * name addresses without their queries, which may hold signatures.
 */
import {ValueError} from '../base/errors';
import {
  AnySignal,
  discard,
  LONGEST_WAIT,
  LostRequest,
  PASSING,
  pause,
  retryAfter,
  unlessAborted,
} from '../files/http_client';

/** Waiting times. Tests pass shorter ones. */
export interface Timing {
  /** Milliseconds without a byte after which a connection counts as lost. */
  readonly idle: number;
  /** How often a request is retried after failing without a new byte. */
  readonly retries: number;
  sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void>;
}

export const TIMING: Timing = {idle: 30_000, retries: 5, sleep: pause};

/** Milliseconds before retry `n`, unless the server names a time. */
const backoff = (n: number) => Math.min(20_000, 500 * 2 ** n) * (0.75 + Math.random() / 2);

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** The most redirects of one request. */
const HOPS = 10;

/** The server was not reached at all. */
export class Unreachable extends Error {}

/** An address as it appears in errors. */
export function nameOf(address: string): string {
  const {origin, pathname} = new URL(address);
  return origin + pathname;
}

/** A response, where it came from, and how to read its body. */
export interface Answer {
  readonly response: Response;
  /** The address after redirects. */
  readonly address: string;
  /** The body, piece by piece. Read it to the end, or end it with `return`. */
  pieces(): AsyncGenerator<Uint8Array>;
  /** Frees the connection of a body that is not read. */
  discard(): Promise<void>;
}

export interface RequestOptions {
  /** Sent only to the host of the address. */
  readonly credentials?: Readonly<Record<string, string>>;
  /** Sent to every host. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Stops this request, instead of the signal for all requests. */
  readonly signal?: AbortSignal;
}

/** The signal of one request, aborted when nothing has happened for some time, or another signal is. */
class Watch {
  private readonly clock = new AbortController();
  private readonly any: AnySignal;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** Whether time has run out. */
  isIdle = false;

  constructor(
    private readonly idle: number,
    outer: AbortSignal | undefined,
  ) {
    this.any = new AnySignal(this.clock.signal, outer);
    this.touch();
  }
  get signal(): AbortSignal {
    return this.any.signal;
  }
  touch(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.isIdle = true;
      this.clock.abort();
    }, this.idle);
  }
  end(): void {
    clearTimeout(this.timer);
    this.any.end();
  }
}

export class Requests {
  private fetchFunction: Promise<typeof fetch>;
  /** Browsers hide the targets of redirects. They follow them themselves, and drop credentials at another host. */
  private redirect: 'manual' | 'follow' = 'manual';

  /**
   * @param fetchFunction called for each request.
   * @param signal stops all requests.
   */
  constructor(
    fetchFunction: typeof fetch | Promise<typeof fetch | undefined> | undefined,
    readonly signal: AbortSignal | undefined,
    readonly timing: Timing = TIMING,
  ) {
    // Looked up for each request, since a page may replace it.
    this.fetchFunction = Promise.resolve(fetchFunction).then(
      given => given ?? ((...args) => globalThis.fetch(...args)),
    );
    // The first request reports the error.
    this.fetchFunction.catch(() => {});
  }

  /**
   * Sends one request and follows redirects.
   *
   * @throws LostRequest if there is no answer, or if the server cannot answer now.
   */
  async send(address: string, {credentials = {}, headers = {}, signal}: RequestOptions = {}): Promise<Answer> {
    const stop = signal ?? this.signal;
    const home = new URL(address).origin;
    let at = address;
    for (let hop = 0; hop <= HOPS; hop++) {
      const {origin, protocol} = new URL(at);
      const sent = new Headers(origin === home ? credentials : {});
      for (const [name, value] of Object.entries(headers)) sent.set(name, value);
      const answer = await this.request(at, Object.fromEntries(sent), stop);
      const {status} = answer.response;
      if (REDIRECTS.has(status)) {
        await answer.discard();
        const location = answer.response.headers.get('location');
        const next = location === null || !URL.canParse(location, at) ? undefined : new URL(location, at);
        if (!next || !/^https?:$/.test(next.protocol) || (protocol === 'https:' && next.protocol === 'http:')) {
          const where = next ? `${next.protocol}//${next.host}` : 'no address';
          throw new Error(
            `Expected a redirect to a safe address from ${nameOf(at)}. Received: HTTP ${status} to ${where}.`,
          );
        }
        at = next.href;
        continue;
      }
      if (!PASSING.has(status)) return answer;
      await answer.discard();
      const wait = retryAfter(answer.response);
      const later = wait === undefined ? 'Try again later.' : `Try again in ${Math.ceil(wait / 1000)} s.`;
      const reported = new Error(`Expected a response from ${nameOf(at)}. Received: HTTP ${status}. ${later}`);
      throw wait !== undefined && wait > LONGEST_WAIT ? reported : new LostRequest(reported, wait);
    }
    throw new Error(`Expected a file at ${nameOf(address)}. Received: more than ${HOPS} redirects.`);
  }

  /**
   * Runs `run` again after each LostRequest until no try is left.
   *
   * @param progressed whether the last try got further. If so, the number of tries starts again at 0.
   */
  async retried<T>(
    run: () => Promise<T>,
    progressed: () => boolean = () => false,
    signal = this.signal,
    retries = this.timing.retries,
  ): Promise<T> {
    for (let failures = 0; ; failures++) {
      signal?.throwIfAborted();
      try {
        return await run();
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof LostRequest)) throw error;
        if (progressed()) failures = 0;
        if (failures >= retries) throw error.reported;
        await this.timing.sleep(error.wait ?? backoff(failures), signal);
      }
    }
  }

  /**
   * The complete answer of an API, retried where appropriate. The caller interprets its status and contents.
   */
  text(
    address: string,
    options: RequestOptions & {retries?: number} = {},
  ): Promise<{response: Response; text: string}> {
    const run = async () => {
      const answer = await this.send(address, options);
      const decoder = new TextDecoder();
      let text = '';
      for await (const piece of answer.pieces()) {
        text += decoder.decode(piece, {stream: true});
        if (text.length > 64e6)
          throw new Error(`Expected a response of an API from ${nameOf(address)}. Received: 64 MB.`);
      }
      return {response: answer.response, text: text + decoder.decode()};
    };
    return this.retried(run, undefined, undefined, options.retries ?? Math.min(this.timing.retries, 3));
  }

  private async request(
    address: string,
    headers: Record<string, string>,
    stop: AbortSignal | undefined,
  ): Promise<Answer> {
    stop?.throwIfAborted();
    const call = await this.fetchFunction;
    const watch = new Watch(this.timing.idle, stop);
    const {signal} = watch;
    const lost = (error: unknown, what: string, kind: new (message: string) => Error = Error): LostRequest => {
      const {message, cause} = error as Error & {cause?: {code?: string}};
      const why = watch.isIdle
        ? `nothing for ${Math.round(this.timing.idle / 1000)} s`
        : `${message}${cause?.code ? ` (${cause.code})` : ''}`;
      return new LostRequest(
        new kind(`Expected ${what} ${nameOf(address)}. Received: ${why}. Check the connection, and try again.`),
      );
    };
    let response: Response;
    try {
      response = await unlessAborted(call(address, {headers, signal, redirect: this.redirect}), signal);
      if (response.type === 'opaqueredirect') {
        this.redirect = 'follow';
        response = await unlessAborted(call(address, {headers, signal, redirect: 'follow'}), signal);
      }
    } catch (error) {
      watch.end();
      stop?.throwIfAborted();
      if (error instanceof ValueError) throw error;
      throw lost(error, 'a response from', Unreachable);
    }
    watch.touch();
    const body = async function* (): AsyncGenerator<Uint8Array> {
      const reader = response.body?.getReader();
      let complete = !reader;
      try {
        while (reader) {
          let next: ReadableStreamReadResult<Uint8Array>;
          try {
            next = await unlessAborted(reader.read(), signal);
          } catch (error) {
            stop?.throwIfAborted();
            throw lost(error, 'the rest of');
          }
          if (next.done) {
            complete = true;
            return;
          }
          watch.touch();
          yield next.value;
          // Time that the reader takes does not count as the server's.
          watch.touch();
        }
      } finally {
        watch.end();
        // Frees the connection. Whether that succeeds does not matter here.
        if (!complete) void reader!.cancel().catch(() => {});
      }
    };
    return {
      response,
      address: response.redirected ? response.url : address,
      pieces: body,
      discard: async () => {
        watch.end();
        void discard(response);
      },
    };
  }
}

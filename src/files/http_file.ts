/** A file on a server: read by range requests, or as a whole from a server that does not support them. */
import {type ByteRange, type ByteSource, truncated} from '../base/byte_source';
import {type ReadAhead} from './http_ahead';
import {WholeBody} from './http_body';
import {AnySignal, discard, type HttpClient, LostRequest, pieces} from './http_client';
import {isPage, PAGE_START} from './http_page';

/** Maximum size in bytes of a file that is kept whole when its parts are read in any order. */
export const WHOLE_LIMIT = 64 * 2 ** 20;

/** A file of at most this many bytes is read with one request, whichever part of it is needed. */
export const SMALL = 8 * 2 ** 20;

/** The headers that distinguish versions of a file, where the page may see them. */
export interface FileVersion {
  readonly etag: string | null;
  readonly modified: string | null;
}

export const versionOf = ({headers}: Response): FileVersion => ({
  etag: headers.get('etag'),
  modified: headers.get('last-modified'),
});

const differs = (a: string | null, b: string | null) => a !== null && b !== null && a !== b;

/** The range that a response says it holds. Null where it is hidden from pages of other origins. */
export function contentRange({headers}: Response): {start: number; total: number | undefined} | null {
  const found = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers.get('content-range') ?? '');
  return found && {start: Number(found[1]), total: found[2] === '*' ? undefined : Number(found[2])};
}

/** The error for a compressed range: browsers give pages neither its bytes nor its size. */
export function checkEncoding(response: Response, name: string): void {
  const encoding = response.headers.get('content-encoding') ?? 'identity';
  if (encoding === 'identity') return;
  throw new Error(
    `Expected the bytes of ${name} as they are. Received: HTTP ${response.status} with content-encoding ${encoding}. ` +
      'Configure the server to send ranges without compression.',
  );
}

/** The error for a large file of which parts are needed, but which the server sends as a whole. */
export const withoutRanges = (name: string, status: number): Error =>
  new Error(
    `Expected a server that answers range requests for ${name}, which has more than 64 MB. Received: HTTP ${status} ` +
      'with the whole file. Use such a server, or convert the preset to the tfjs format (`gemma3 convert`), whose ' +
      'files are read from beginning to end.',
  );

/** How to request the files of one preset. */
export interface HttpAccess {
  readonly client: HttpClient;
  readonly ahead: ReadAhead;
}

/** What is known from the first answer for a file. */
export interface FirstAnswer {
  /** The first bytes of the file. */
  readonly head?: Uint8Array;
  /** Whether it came as a range. */
  readonly ranges: boolean;
  readonly version: FileVersion;
}

export class HttpFile implements ByteSource {
  readonly blockSize = 64 * 1024;
  /** The first bytes of the file, or all of them. */
  private head: Uint8Array;
  private version: FileVersion | undefined;
  /** Whether the server answers range requests for this file. Undefined until the first answer. */
  private ranges: boolean | undefined;
  /** The request that will tell. */
  private opening: Promise<void> | undefined;
  private body: WholeBody | undefined;
  private rest: Promise<void> | undefined;
  private secondPass: Promise<void> | undefined;
  private readonly stop = new AbortController();
  private readonly signal: AbortSignal;

  /**
   * @param name the address without its query.
   * @param first what is known of the file. Without it, the first request checks `size`.
   */
  constructor(
    readonly name: string,
    readonly size: number,
    private readonly url: string,
    private readonly access: HttpAccess,
    first?: FirstAnswer,
  ) {
    this.head = first?.head ?? new Uint8Array(0);
    this.version = first?.version;
    this.ranges = first?.ranges;
    access.client.add(this.stop);
    this.signal = this.stop.signal;
  }

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset + target.length > this.size) throw truncated(this, offset + target.length);
    const {ahead} = this.access;
    for (let filled = 0; filled < target.length;) {
      const at = offset + filled;
      const rest = target.subarray(filled);
      if (at < this.head.length) {
        const part = this.head.subarray(at, at + rest.length);
        rest.set(part);
        filled += part.length;
        continue;
      }
      const taken = await ahead.take(this, at, rest);
      filled += taken;
      if (taken > 0) continue;
      if (this.size <= SMALL || this.ranges === false) {
        await this.readRest();
        continue;
      }
      const part = rest.subarray(0, Math.min(rest.length, ahead.next(this, at) - at));
      if (await this.fetchRange(at, part, this.signal)) filled += part.length;
    }
  }

  readAhead(ranges: readonly ByteRange[]): void {
    const known = this.head.length;
    const wanted = ranges.map(({start, end}) => ({start: Math.max(start, known), end: Math.min(end, this.size)}));
    this.access.ahead.plan(this, wanted, (start, target, stop) => this.fetchAhead(start, target, stop));
  }

  async close(): Promise<void> {
    this.access.ahead.forget(this);
    this.stop.abort(new Error(`${this.name} was closed.`));
    this.access.client.remove(this.stop);
    await this.body?.close();
  }

  /** Fills `target`; the next reads are for later parts of the file. */
  private async fetchAhead(start: number, target: Uint8Array, stop: AbortSignal): Promise<void> {
    const any = new AnySignal(stop, this.signal);
    try {
      if (await this.fetchRange(start, target, any.signal)) return;
    } finally {
      any.end();
    }
    this.body ??= this.wholeBody();
    if (await this.body.readInto(start, target)) return;
    if (this.size > WHOLE_LIMIT) {
      // Bytes that a few small reads have skipped are requested once more: a model reads its norms before everything
      // else.
      this.secondPass ??= this.body.close();
      await this.secondPass;
      if (await this.body.readInto(start, target)) return;
    }
    await this.readRest();
    target.set(this.head.subarray(start, start + target.length));
  }

  /** Reads all of the file that is not known, because parts of it are needed in any order. */
  private async readRest(): Promise<void> {
    this.rest ??= (async () => {
      if (this.size > WHOLE_LIMIT) throw withoutRanges(this.name, 200);
      const bytes = new Uint8Array(this.size);
      const known = this.head.length;
      bytes.set(this.head);
      if (!(await this.fetchRange(known, bytes.subarray(known), this.signal))) {
        const started = this.body;
        this.body = undefined;
        if (!(await started?.readInto(0, bytes))) await this.wholeBody().readInto(0, bytes);
      }
      this.head = bytes;
    })();
    await this.rest.catch((error: unknown) => {
      this.rest = undefined;
      throw error;
    });
  }

  private wholeBody(response?: Response): WholeBody {
    const {client} = this.access;
    const request = async () => {
      const again = await this.request(0, this.size - 1, this.signal);
      if (again.status === 200) return again;
      await discard(again);
      throw new Error(`Expected the whole of ${this.name}, as before. Received: HTTP ${again.status}.`);
    };
    return new WholeBody(this.name, this.size, client, request, this.signal, response);
  }

  /**
   * Fills `target` in one request, and in further ones for the rest where a connection ends early.
   *
   * @returns false if the server answers no range requests for this file.
   */
  private async fetchRange(offset: number, target: Uint8Array, signal: AbortSignal): Promise<boolean> {
    let filled = 0;
    const last = offset + target.length - 1;
    return this.access.client.retried(async () => {
      const response = await this.range(offset + filled, last, signal);
      if (!response) return false;
      for await (const piece of pieces(response, this.name, signal)) {
        if (filled + piece.length > target.length) {
          throw new Error(`Expected ${target.length} bytes of ${this.name} from ${offset}. Received: more.`);
        }
        target.set(piece, filled);
        filled += piece.length;
      }
      if (offset === 0 && isPage(target.subarray(0, Math.min(filled, PAGE_START)))) {
        throw this.aPage(response);
      }
      if (filled === target.length) return true;
      throw new LostRequest(
        new Error(
          `Expected ${target.length} bytes of ${this.name} from ${offset}. Received: ${filled}. ` +
            'The connection ended early.',
        ),
      );
    }, signal);
  }

  /**
   * Requests a range. The first request for a file goes alone, since a server without range requests would answer each
   * one with the whole file.
   *
   * @returns undefined if the server answers no range requests.
   */
  private async range(first: number, last: number, signal: AbortSignal): Promise<Response | undefined> {
    while (this.ranges === undefined && this.opening) await this.opening;
    signal.throwIfAborted();
    if (this.ranges === false) return undefined;
    if (this.ranges) return this.request(first, last, signal);
    let opened!: () => void;
    this.opening = new Promise(resolve => (opened = resolve));
    try {
      const response = await this.request(first, last, this.signal);
      this.version ??= versionOf(response);
      this.ranges = response.status === 206;
      if (this.ranges) return response;
      this.body = this.wholeBody(response);
      return undefined;
    } finally {
      this.opening = undefined;
      opened();
    }
  }

  /** The answer to a request for a range: that range or, unless others have come before, the whole file. */
  private async request(first: number, last: number, signal: AbortSignal): Promise<Response> {
    const response = await this.access.client.get(this.url, this.name, first, last, signal);
    try {
      this.check(response, first, last);
    } catch (error) {
      // That it is a web page says more than that its size is wrong.
      const start = first === 0 && response.ok ? pieces(response, this.name, signal) : undefined;
      const {value} = (await start?.next()) ?? {};
      await (start ? start.return(undefined) : discard(response));
      throw value && isPage(value) ? this.aPage(response) : error;
    }
    return response;
  }

  private aPage({status}: Response): Error {
    return new Error(`Expected ${this.size} bytes of ${this.name}. Received: a web page with HTTP ${status}.`);
  }

  /** @throws Error unless the response holds bytes from `start` on, of the file that was opened. */
  private check(response: Response, start: number, last: number): void {
    const {status} = response;
    const now = versionOf(response);
    const range = contentRange(response);
    const total = range?.total;
    if (status !== 206 && (status !== 200 || this.ranges)) {
      throw new Error(`Expected bytes ${start}-${last} of ${this.name}. Received: HTTP ${status}.`);
    }
    if (this.version === undefined && total !== undefined && total !== this.size) {
      throw new Error(
        `Expected ${this.size} bytes in ${this.name}. Received: HTTP ${status} with ${total} bytes. Convert or fetch ` +
          'the preset again.',
      );
    }
    const {etag = null, modified = null} = this.version ?? {};
    const resized = total !== undefined && total !== this.size;
    if (resized || differs(now.etag, etag) || differs(now.modified, modified)) {
      throw new Error(
        `Expected ${this.name} as it was when it was opened. Received: HTTP ${status} with another version of it. ` +
          'The file has changed on the server: load it again.',
      );
    }
    if (status === 200) return;
    if (range && range.start !== start) {
      throw new Error(
        `Expected bytes ${start}-${last} of ${this.name}. Received: HTTP 206 with bytes from ${range.start}.`,
      );
    }
    checkEncoding(response, this.name);
  }
}

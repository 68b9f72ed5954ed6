/** A preset at an http(s) address. Any static server will do, but large files need range requests. */
import {type ByteSource, MemorySource, type PresetSource} from '../base/byte_source';
import {concatBytes} from '../base/concat_bytes';
import {ValueError} from '../base/errors';
import {type HttpAddress, parseAddress} from './http_address';
import {ReadAhead} from './http_ahead';
import {discard, HttpClient, type HttpOptions, LostRequest, pieces} from './http_client';
import {
  checkEncoding,
  contentRange,
  type HttpAccess,
  HttpFile,
  SMALL,
  versionOf,
  WHOLE_LIMIT,
  withoutRanges,
} from './http_file';
import {isPage, PAGE_START} from './http_page';

/** Bytes of the first request for a file: most files of a preset are no larger. */
const HEAD = 256 * 1024;

/** An end of a range beyond any file. Servers shorten it to the size of the file. */
const BEYOND = 10 ** 15;

/** Statuses that say that there is no such file. Object stores answer 403 where files may not be listed. */
const MISSING = new Set([403, 404, 410]);

/** The server's answer that explains why a file was not found. */
interface Missing {
  readonly missing: string;
}

/**
 * Files below the address of the preset's folder. A query of the address, such as a token, is sent with the request for
 * each file. Weights are read with range requests, several at a time, a few megabytes each. A server without range
 * requests sends whole files: those that are read from beginning to end may have any size, others at most 64 MB.
 *
 * A file for which the server sends a web page counts as missing, whatever the status is. Requests that are lost, cut
 * off or temporarily refused (HTTP 429 and 5xx) are retried three times.
 */
export class HttpPreset implements PresetSource {
  private readonly address: HttpAddress;
  private readonly client: HttpClient;
  private readonly access: HttpAccess;
  /** Files that {@link has} has found, until they are opened: their first request answers both questions. */
  private readonly found = new Map<string, Promise<ByteSource | Missing>>();

  /** @throws ValueError if this is not an http(s) address, or an option cannot be used. */
  constructor(address: string, options: HttpOptions = {}) {
    this.address = parseAddress(address);
    this.client = new HttpClient(options);
    this.access = {client: this.client, ahead: new ReadAhead()};
  }

  get name(): string {
    return this.address.name;
  }

  /** @throws Error if the server does not answer, or answers neither with the file nor that it is missing. */
  async has(path: string): Promise<boolean> {
    return !('missing' in (await this.find(path)));
  }

  async open(path: string): Promise<ByteSource> {
    const found = await this.find(path);
    this.found.delete(path);
    if (!('missing' in found)) return found;
    throw new ValueError(`Expected a preset at ${this.name} with file "${path}". Received: ${found.missing}.`);
  }

  openSized(path: string, size: number): ByteSource {
    const {name, url} = this.placeOf(path);
    return new HttpFile(name, size, url, this.access);
  }

  private placeOf(path: string): {name: string; url: string} {
    const name = `${this.name}/${path}`;
    return {name, url: `${name}${this.address.query}`};
  }

  private find(path: string): Promise<ByteSource | Missing> {
    const known = this.found.get(path);
    if (known) return known;
    const finding = this.client.retried(() => this.request(path));
    this.found.set(path, finding);
    // A file that is missing now may exist when it is requested again.
    const forget = () => void (this.found.get(path) === finding && this.found.delete(path));
    finding.then(found => 'missing' in found && forget(), forget);
    return finding;
  }

  /** Requests the first bytes of a file, which tell whether it exists and its size, and are often the whole file. */
  private async request(path: string): Promise<ByteSource | Missing> {
    const {name, url} = this.placeOf(path);
    const response = await this.client.get(url, name, 0, HEAD - 1);
    const {status} = response;
    if (status !== 200 && status !== 206) {
      await discard(response);
      // An empty file has no first byte.
      if (status === 416) return new MemorySource(name, new Uint8Array(0));
      if (MISSING.has(status)) return {missing: `HTTP ${status}`};
      throw new ValueError(`Expected a preset at ${this.name} with file "${path}". Received: HTTP ${status}.`);
    }
    if (status === 206) checkEncoding(response, name);
    const version = versionOf(response);
    const length = status === 200 ? lengthOf(response) : undefined;
    if (length !== undefined && length > SMALL) {
      await discard(response);
      return new HttpFile(name, length, url, this.access, {ranges: false, version});
    }
    const head = await readUpTo(response, name, this.client.signal);
    if (isPage(head)) return {missing: `a web page with HTTP ${status}`};
    if (status === 200) return new MemorySource(name, head);
    const size = contentRange(response)?.total ?? (head.length < HEAD ? head.length : await this.sizeOf(url, name));
    if (head.length !== Math.min(HEAD, size)) {
      throw new LostRequest(
        new Error(
          `Expected ${Math.min(HEAD, size)} bytes of ${name} from 0. Received: ${head.length}. The connection ended ` +
            'early.',
        ),
      );
    }
    if (head.length === size) return new MemorySource(name, head);
    return new HttpFile(name, size, url, this.access, {head, ranges: true, version});
  }

  /**
   * The size of a file whose Content-Range is hidden, as it is from pages of other origins. The length of a range is
   * visible. HEAD would not work: if the server compresses, it returns the length of the compressed file.
   */
  private async sizeOf(url: string, name: string): Promise<number> {
    const response = await this.client.get(url, name, HEAD, BEYOND);
    await discard(response);
    // The file ends exactly where the first request ended.
    if (response.status === 416) return HEAD;
    const length = response.headers.get('content-length');
    if (response.status === 206 && length !== null) return HEAD + Number(length);
    throw new Error(
      `Expected the size of ${name} from its server. Received: HTTP ${response.status} without it. Let the server send ` +
        'Content-Length, or expose the header Content-Range (Access-Control-Expose-Headers).',
    );
  }
}

/**
 * Opens one file at an http(s) address.
 *
 * @throws as `open` of {@link HttpPreset}.
 */
export function openHttpFile(address: string, options?: HttpOptions): Promise<ByteSource> {
  const {name, query} = parseAddress(address);
  const cut = name.lastIndexOf('/');
  return new HttpPreset(name.slice(0, cut) + query, options).open(name.slice(cut + 1));
}

/**
 * The length of a whole file. Undefined where it is unknown: for answers from other origins, pages see the length of
 * compressed bytes, but not that they are compressed.
 */
function lengthOf({headers, type}: Response): number | undefined {
  const length = headers.get('content-length');
  return length === null || headers.has('content-encoding') || type !== 'basic' ? undefined : Number(length);
}

/** The body of a response, up to the size that memory should hold. */
async function readUpTo(response: Response, name: string, signal: AbortSignal | undefined): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let read = 0;
  for await (const part of pieces(response, name, signal)) {
    parts.push(part);
    read += part.length;
    if (read > WHOLE_LIMIT) throw withoutRanges(name, response.status);
    // A web page sent instead of a file may be long.
    if (read >= PAGE_START && isPage(parts[0]!)) break;
  }
  return concatBytes(parts);
}

/**
 * All bytes of one file at an http(s) address, in one request.
 *
 * @throws ValueError if it is missing, or a web page is sent instead; Error if the server does not answer.
 */
export async function fetchFile(address: string, options: HttpOptions = {}): Promise<Uint8Array> {
  const client = new HttpClient(options);
  const {name} = parseAddress(address);
  return client.retried(async () => {
    const response = await client.get(address, name);
    const refused = (received: string) => new ValueError(`Expected a file at ${name}. Received: ${received}.`);
    if (!response.ok) {
      await discard(response);
      throw refused(`HTTP ${response.status}`);
    }
    const bytes = await readUpTo(response, name, client.signal);
    if (isPage(bytes)) throw refused(`a web page with HTTP ${response.status}`);
    return bytes;
  });
}

/** The contents of an answer to a request for a range of a file. */
import {ValueError} from '../base/errors';
import {contentRange} from '../files/http_file';
import {type Checksum, type RemoteFile} from './hub';
import {nameOf} from './requests';

/** What an answer tells about its file. */
export interface RangeAnswer {
  /** Where its bytes start in the file. */
  readonly start: number;
  /** Size of the whole file, if known. */
  readonly size: number | undefined;
  /** Whether the server has answered with a range. */
  readonly ranged: boolean;
}

/** Statuses with which storage hosts report that a signed address has expired. */
export const EXPIRED = new Set([400, 401, 403, 404, 410]);

/** The MD5 that Google Cloud Storage sends with a file, in hexadecimal. */
export function storageChecksum({headers}: Response): Checksum | undefined {
  const [, text] = /(?:^|[\s,])md5=([A-Za-z0-9+/]{22}==)/.exec(headers.get('x-goog-hash') ?? '') ?? [];
  if (text === undefined) return undefined;
  const value = Array.from(atob(text), char => char.charCodeAt(0).toString(16).padStart(2, '0')).join('');
  return {kind: 'md5', value};
}

/** Whether the first bytes of a file are those of a web page. */
export const isPage = (head: Uint8Array): boolean =>
  /^\s*(<!--[^]*?-->\s*)*<(!doctype\s+html|html|head|body)\b/i.test(new TextDecoder().decode(head));

/** The server's name for this version of a file, if it has no checksum. */
export function versionIn({headers}: Response): string | undefined {
  return headers.get('etag') ?? headers.get('last-modified') ?? undefined;
}

/**
 * Whether an answer with status 200, 206 or 416 is the requested range from `start` on.
 *
 * @param size the size of the file; undefined if it is not known yet.
 * @returns its contents, or what is wrong with it, as a text after "Received: ".
 */
export function judge(
  response: Response,
  file: RemoteFile,
  start: number,
  size: number | undefined,
): RangeAnswer | string {
  const {status, headers} = response;
  const range = contentRange(response);
  if (status === 416) return `HTTP 416, as if the file ended before byte ${start}`;
  const type = headers.get('content-type') ?? '';
  if (/^text\/html\b/i.test(type) && !/\.html?$/i.test(file.path)) return `a web page with HTTP ${status}`;
  const encoding = headers.get('content-encoding') ?? 'identity';
  const now = versionIn(response);
  if (file.version !== undefined && now !== undefined && now !== file.version) return 'another version of the file';
  if (status === 206) {
    // Servers may hide the header from pages of other origins. Then the checksum decides.
    const hidden = !range && response.type === 'cors' && file.checksum !== undefined;
    if (hidden) return {start, size: undefined, ranged: true};
    if (!range) return 'HTTP 206 that does not say which bytes it holds';
    if (range.start !== start) return `HTTP 206 with bytes from ${range.start}`;
    if (encoding !== 'identity') return `HTTP 206 with content-encoding ${encoding}`;
    if (range.total !== undefined && size !== undefined && range.total !== size) {
      return `a file of ${range.total} bytes`;
    }
    return {start, size: range.total, ranged: true};
  }
  const length = headers.get('content-length');
  const total = length === null || encoding !== 'identity' ? undefined : Number(length);
  if (total !== undefined && size !== undefined && total !== size) return `a file of ${total} bytes`;
  return {start: 0, size: total, ranged: false};
}

/** The error for an answer that is not a file. */
export function statusError({path}: RemoteFile, address: string, {status}: Response): Error {
  return new ValueError(`Expected file "${path}" at ${nameOf(address)}. Received: HTTP ${status}.`);
}

/** Addresses of files on servers. */
import {canReadFolders} from '#platform/files';
import {ValueError} from '../base/errors';

/** Whether a text is an http(s) address. */
export const isHttp = (text: string): boolean => /^https?:\/\//i.test(text);

/** The parts of an address: the query applies to every file below a folder, the fragment to none. */
export interface HttpAddress {
  /** Without query, fragment and trailing slash. Errors show this, since queries may contain secrets. */
  readonly name: string;
  /** Empty, or begins with "?". */
  readonly query: string;
}

/** Applications and extensions have their own schemes, which `fetch` understands. */
const isWhole = (text: string) => /^[a-z][a-z\d+.-]*:\/\//i.test(text) && URL.canParse(text);

/** @throws ValueError if this is not an absolute address. */
export function parseAddress(address: string): HttpAddress {
  const [whole = ''] = address.split('#');
  if (!isWhole(whole)) {
    throw new ValueError(
      `Expected a whole address, such as https://example.org/x. Received: "${whole.split('?')[0]}".`,
    );
  }
  const {username, password, host} = new URL(whole);
  if (username || password) {
    throw new ValueError(`Expected a password in \`headers\`, not in the address. Received: one at ${host}.`);
  }
  const mark = whole.indexOf('?');
  const path = mark < 0 ? whole : whole.slice(0, mark);
  return {name: path.replace(/\/$/, ''), query: mark < 0 ? '' : whole.slice(mark)};
}

/**
 * The http(s) address that a text means: itself or, in a page, an address relative to the document that begins with
 * "/", "./" or "../". Undefined for any other text.
 *
 * @throws ValueError for a relative address where the document has no address of its own.
 */
export function httpAddress(text: string): string | undefined {
  if (isHttp(text)) return text;
  if (canReadFolders || !/^\.{0,2}\//.test(text)) return undefined;
  return relativeAddress(text, globalThis.document?.baseURI ?? globalThis.location?.href);
}

/** @throws ValueError if `base` cannot have relative addresses, as the address of a blob. */
export function relativeAddress(text: string, base: string | undefined): string {
  const resolved = base !== undefined && URL.canParse(text, base) ? new URL(text, base).href : '';
  if (isWhole(resolved)) return resolved;
  throw new ValueError(
    `Expected a whole address, which begins with https:// or http://. Received: "${text}", which is relative, where the ` +
      `document is ${base === undefined ? 'unknown' : `"${base}"`}.`,
  );
}

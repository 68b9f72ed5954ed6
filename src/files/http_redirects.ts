/** Follows redirects of requests with headers of a user. Loaded with the first such request. */
import {ValueError} from '../base/errors';

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** The most redirects of one request. */
const HOPS = 10;

/**
 * Sends a request. `fetch` would send most headers to other servers, too; here these get only the range.
 *
 * @throws ValueError on a redirect to another kind of address, and on too many.
 */
export async function fetchHeadersAtHome(
  url: string,
  headers: Headers,
  send: (url: string, options: RequestInit) => Promise<Response>,
): Promise<Response> {
  const home = new URL(url).origin;
  const range = headers.get('range');
  const elsewhere = new Headers(range === null ? {} : {range});
  let at = new URL(url);
  for (let hop = 0; hop <= HOPS; hop++) {
    const response = await send(at.href, {headers: at.origin === home ? headers : elsewhere, redirect: 'manual'});
    // Browsers hide the targets of redirects. There the other server must allow each header.
    if (response.type === 'opaqueredirect') return send(url, {headers});
    const location = response.headers.get('location');
    if (!REDIRECTS.has(response.status) || location === null || !URL.canParse(location, at)) return response;
    // Frees the connection.
    await response.body?.cancel().catch(() => {});
    const next = new URL(location, at);
    if (!/^https?:$/.test(next.protocol) || (at.protocol === 'https:' && next.protocol === 'http:')) {
      throw new ValueError(
        `Expected a redirect to a safe address from ${at.host}. Received: ${next.protocol}//${next.host}.`,
      );
    }
    at = next;
  }
  throw new ValueError(`Expected a file at ${home}. Received: more than ${HOPS} redirects.`);
}

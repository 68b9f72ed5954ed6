/** Makes the page work offline, and isolates it if the server does not. Models are not stored here. */

/** Files of this version, and its policy. The build inserts them. */
declare const FILES: readonly string[];
declare const VERSION: string;
declare const HEADERS: Readonly<Record<string, string>>;

interface ExtendableEvent extends Event {
  waitUntil(promise: Promise<unknown>): void;
}
interface WorkerScope {
  skipWaiting(): Promise<void>;
  clients: {claim(): Promise<void>};
  registration: {scope: string};
  addEventListener(type: 'install' | 'activate' | 'message', listener: (event: ExtendableEvent) => void): void;
  addEventListener(
    type: 'fetch',
    listener: (event: ExtendableEvent & {request: Request; respondWith(response: Promise<Response>): void}) => void,
  ): void;
}
const scope = self as unknown as WorkerScope;

const NAME = `gemma3-demo-${VERSION}`;

/** The same response with the headers that a server should have sent. */
function withHeaders(response: Response): Response {
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  const empty = response.status === 204 || response.status === 304;
  return new Response(empty ? null : response.body, {
    status: response.status,
    statusText: response.statusText,
    headers,
  });
}

const PAGE = new URL('./', scope.registration.scope).href;
const ADDRESSES = FILES.map(file => new URL(file, scope.registration.scope).href);

const writing = new Map<string, Promise<void>>();

/**
 * Stores a file, unless it is being stored already: a second write would remove the first one's file until it is done.
 */
function storeOnce(address: string, write: () => Promise<void>): Promise<void> {
  const running = writing.get(address) ?? write().finally(() => writing.delete(address));
  writing.set(address, running);
  return running;
}

/** Stores the files that are not stored yet. */
async function keep(): Promise<void> {
  const cache = await caches.open(NAME);
  for (const address of ADDRESSES) {
    await storeOnce(address, async () => {
      if (!(await cache.match(address))) await cache.add(address);
    });
  }
}

async function removeOlder(): Promise<void> {
  const names = await caches.keys();
  await Promise.all(
    names.filter(name => name.startsWith('gemma3-demo-') && name !== NAME).map(name => caches.delete(name)),
  );
}

/** Answers a request. Promises of storing files are passed to `wait`. */
async function answer(request: Request, isPage: boolean, wait: (stored: Promise<unknown>) => void): Promise<Response> {
  const cache = await caches.open(NAME);
  const address = isPage ? PAGE : request.url;
  const stored = () => cache.match(address, {ignoreSearch: true});
  // A new version of the page is used at once; other files have their version in their names.
  if (!isPage) {
    const found = await stored();
    if (found) return withHeaders(found);
  }
  try {
    const response = await fetch(request);
    // The page itself may be newer than its other files here.
    if (!isPage && response.status === 200 && ADDRESSES.includes(address)) {
      wait(storeOnce(address, () => cache.put(address, response.clone())).catch(() => {}));
    }
    return withHeaders(response);
  } catch (error) {
    const found = await stored();
    if (found) return withHeaders(found);
    throw error;
  }
}

scope.addEventListener('install', event => event.waitUntil(scope.skipWaiting()));
scope.addEventListener('activate', event => event.waitUntil(removeOlder().then(() => scope.clients.claim())));
scope.addEventListener('message', event => event.waitUntil(keep()));
scope.addEventListener('fetch', event => {
  const {request} = event;
  const isOwn = request.url.startsWith(scope.registration.scope) && request.method === 'GET';
  // Range requests, for models, are not handled here.
  if (!isOwn || request.headers.has('range')) return;
  event.respondWith(answer(request, request.mode === 'navigate', stored => event.waitUntil(stored)));
});

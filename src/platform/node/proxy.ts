/**
 * Proxies that the environment names. Node's `fetch` ignores them, unless NODE_USE_ENV_PROXY=1 tells a new enough Node to
 * follow them. The package undici, on which Node's `fetch` is based, can do so in all versions of Node.
 */
import {ValueError} from '../../base/errors';

const variable = (name: string) => process.env[name.toLowerCase()] || process.env[name] || undefined;

/** Whether an entry of NO_PROXY applies to this address: a host with its subdomains, with or without a port, or "*". */
function isExcepted(url: URL, entry: string): boolean {
  const [, host, port] = /^\*?\.?(.+?)(?::(\d+))?$/.exec(entry) ?? [];
  if (entry === '*') return true;
  if (host === undefined) return false;
  const used = url.port || (url.protocol === 'https:' ? '443' : '80');
  if (port !== undefined && port !== used) return false;
  const name = url.hostname.toLowerCase();
  return name === host.toLowerCase() || name.endsWith(`.${host.toLowerCase()}`);
}

/** The proxy for an address; undefined if it is requested directly. */
export function proxyOf(address: string): string | undefined {
  const url = new URL(address);
  const proxy = variable(url.protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY');
  if (proxy === undefined) return undefined;
  const exceptions = (variable('NO_PROXY') ?? '').split(/[\s,]+/).filter(entry => entry !== '');
  return exceptions.some(entry => isExcepted(url, entry)) ? undefined : proxy;
}

/** The parts of undici's interface that are used here. */
interface Undici {
  fetch: (address: string, options: RequestInit & {dispatcher: unknown}) => Promise<Response>;
  EnvHttpProxyAgent: new () => unknown;
}

/** Loaded when it is first needed: it is an optional package. A variable hides its name from bundlers. */
async function loadUndici(address: string): Promise<Undici> {
  const name = 'undici';
  try {
    const loaded = (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as Undici & {default?: Undici};
    return loaded.EnvHttpProxyAgent ? loaded : loaded.default!;
  } catch (error) {
    const {code, message} = error as NodeJS.ErrnoException;
    const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    const which = new URL(address).protocol === 'https:' ? 'HTTPS_PROXY' : 'HTTP_PROXY';
    throw new ValueError(
      `Expected the package "undici" to reach ${new URL(address).host} through the proxy of ${which}. Received: ` +
        `${missing ? 'none is installed' : message}. Run \`npm install undici@7\`, or set NODE_USE_ENV_PROXY=1 ` +
        '(Node 24, or 22.21 and newer), or name the host in NO_PROXY.',
    );
  }
}

/** `fetch` through the proxies that the environment names; undefined if it names none, or if Node uses it itself. */
export async function proxyFetch(): Promise<typeof fetch | undefined> {
  const given = variable('HTTPS_PROXY') ?? variable('HTTP_PROXY');
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const followed = major >= 24 || (major === 22 && minor >= 21);
  if (given === undefined || (followed && process.env.NODE_USE_ENV_PROXY === '1')) return undefined;
  let agent: Promise<{undici: Undici; dispatcher: unknown}> | undefined;
  return async (input, options) => {
    const address = String(input);
    if (proxyOf(address) === undefined) return globalThis.fetch(address, options);
    agent ??= loadUndici(address).then(undici => ({undici, dispatcher: new undici.EnvHttpProxyAgent()}));
    const {undici, dispatcher} = await agent;
    return undici.fetch(address, {...options, dispatcher});
  };
}

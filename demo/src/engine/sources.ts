/** Where a model comes from. */
import {type WorkerPreset} from 'tfjs-gemma3/worker';

export interface Source {
  /** Its name for users. */
  label: string;
  preset: WorkerPreset;
  /** A name or an address that can be downloaded and stored. Undefined for files that are already on this machine. */
  address?: string;
  headers?: Record<string, string>;
  /** Whether it is read from the copy in this browser. */
  kept?: boolean;
}

export const TINY: Source = {label: 'gemma3_tiny', preset: 'gemma3_tiny'};

const EXAMPLES = 'Examples: google/gemma-3-270m-it, https://example.org/models/gemma.gguf, gemma3_tiny.';

/**
 * The model that a text refers to.
 *
 * @throws Error with what can be written instead.
 */
export function parseSource(text: string, token = ''): Source {
  const name = text.trim();
  const headers = token.trim() ? {headers: {authorization: `Bearer ${token.trim()}`}} : {};
  if (name === TINY.label) return TINY;
  if (/^hf:\/\/[^/]+\/[^/]+/.test(name)) return {label: name.slice(5), preset: name, address: name, ...headers};
  if (/^[\w.-]+\/[\w.-]+(\/[\w./-]+)?(@[\w./-]+)?$/.test(name) && !name.startsWith('.')) {
    return {label: name, preset: `hf://${name}`, address: `hf://${name}`, ...headers};
  }
  const isRelative = /^\.{0,2}\//.test(name);
  if (/^https?:\/\//.test(name) || isRelative) {
    if (!URL.canParse(name, document.baseURI)) throw new Error(`"${name}" is no address. ${EXAMPLES}`);
    const {href, pathname, host} = new URL(name, document.baseURI);
    const last = pathname.split('/').filter(Boolean).at(-1) ?? host;
    return {label: decodeURIComponent(last), preset: href, address: href, ...headers};
  }
  throw new Error(name ? `"${name}" is neither a name nor an address. ${EXAMPLES}` : `Write what to load. ${EXAMPLES}`);
}

/** A model that is kept in this browser. */
export const keptSource = (address: string): Source => {
  const label = address.startsWith('hf://') ? address.slice(5) : address.split('/').filter(Boolean).at(-1)!;
  return {label, preset: address, address, kept: true};
};

/** Files of this machine: one .gguf or .keras file, or those of a folder. */
export function fileSource(files: readonly File[]): Source {
  const [first] = files;
  if (!first) throw new Error('Choose at least one file.');
  const folder = first.webkitRelativePath.split('/')[0];
  const single = files.length === 1 && /\.(gguf|keras)$/i.test(first.name);
  return {label: folder || first.name, preset: single ? first : files};
}

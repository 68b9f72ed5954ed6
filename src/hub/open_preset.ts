/** Finds the files of a preset from its name. */
import {openFolder} from '#platform/files';
import {type PresetSource} from '../base/byte_source';
import {checkArgument} from '../base/checks';
import {checkKeys, describeValue, ValueError} from '../base/errors';
import {isPresetFile, NamedFile} from '../base/named_file';
import {BlobPreset} from '../files/blob';
import {HttpPreset} from '../files/http';
import {httpAddress, parseAddress} from '../files/http_address';
import {checkFetched, FETCH_OPTIONS} from '../files/http_client';
import {packaged} from './packaged';
import {presets, registeredPreset} from './registry';
import {type OpenPresetOptions, type Resolver} from './resolver';

/**
 * A folder, a .gguf file or a .keras file: its path, its http(s) or file address (in a page also one that begins with "/", "./" or
 * "../"), or a `File`; the name of a preset in the package or the registry; a name of a hub (`kaggle://…`, `hf://…`); or
 * an open source.
 */
export type PresetLike = string | URL | Blob | PresetSource;

/** The code for downloads is loaded with the first name that needs it. */
const openHubPreset = async (name: string, options: OpenPresetOptions): Promise<PresetSource> =>
  (await import('./download_preset')).openHubPreset(name, options);

const webAddress: Resolver = async (name, options) => {
  const address = httpAddress(name);
  if (address === undefined) return undefined;
  // Without requests it can only be a copy that `downloadPreset` has kept.
  if (options.offline) return openHubPreset(address, options);
  const {name: path, query} = parseAddress(address);
  if (!isPresetFile(path)) return new HttpPreset(address, options);
  const end = path.lastIndexOf('/');
  return new NamedFile(path, path.slice(end + 1), new HttpPreset(path.slice(0, end) + query, options));
};

/** Names with the scheme of a hub. */
const onHub: Resolver = async (name, options) => {
  const [, scheme] = /^([a-z][a-z\d+.-]*):\/\//i.exec(name) ?? [];
  if (scheme === undefined || /^(https?|file)$/i.test(scheme)) return undefined;
  const {hubOf} = await import('./all');
  if (hubOf(name)) return openHubPreset(name, options);
  throw new ValueError(
    `Expected the name of a preset on Kaggle (kaggle://…) or Hugging Face (hf://…), an http(s) address, or a folder. ` +
      `Received: "${name}". Models at ${scheme}:// cannot be downloaded: pass the path of their folder.`,
  );
};

const registered: Resolver = async (name, options) => {
  const entry = registeredPreset(name);
  return entry && openHubPreset(entry.kaggleHandle, options);
};

const otherFamily: Resolver = async name => {
  const {otherFamilyOf} = await import('./other_families');
  const backbone = otherFamilyOf(name);
  if (backbone === undefined) return undefined;
  throw new ValueError(
    `Expected a preset of Gemma 3. Received: "${name}", which KerasHub has for its ${backbone}. This package has ` +
      `only Gemma3Backbone, with the presets ${Object.keys(presets).join(', ')}.`,
  );
};

/**
 * Resolvers for all kinds of names, in the order in which they are tried. The name of a packaged preset means that
 * preset in every working directory; write `./gemma3_tiny` for a folder of that name.
 */
const resolvers: readonly Resolver[] = [webAddress, onHub, packaged, openFolder, registered, otherFamily];

/**
 * Opens a preset.
 *
 * @param options how to request its files, if it is at an http(s) address or on a hub.
 * @throws ValueError if there is no such preset, with examples of names that would work.
 */
export async function openPreset(preset: PresetLike, options: OpenPresetOptions = {}): Promise<PresetSource> {
  checkKeys('openPreset', options, [...FETCH_OPTIONS, 'signal', 'download']);
  checkArgument('openPreset', 'download', options.download ?? true, 'flag');
  if (preset instanceof URL) return openPreset(preset.href, options);
  if (preset instanceof Blob) {
    const source = new BlobPreset([preset as File]);
    checkFetched(source, options);
    return source;
  }
  if (typeof (preset as Partial<PresetSource> | null)?.open === 'function') {
    checkFetched(preset as PresetSource, options);
    return preset as PresetSource;
  }
  if (typeof preset !== 'string' || preset === '') {
    throw new ValueError(
      `Expected a preset: a folder, a .gguf or .keras file, an address or a name. Received: ${describeValue(preset)}.`,
    );
  }
  for (const resolve of resolvers) {
    const source = await resolve(preset, options);
    if (!source) continue;
    const place = source instanceof NamedFile ? source.folder : source;
    const isRequested = place instanceof HttpPreset || resolve === onHub || resolve === registered;
    if (!isRequested) checkFetched(source, options);
    return source;
  }
  throw new ValueError(
    `Expected a preset: the path of a folder, .gguf or .keras file, an http(s) address, "gemma3_tiny" or one of ` +
      `${Object.keys(presets).slice(0, 3).join(', ')}… Received: "${preset}", which is none of these.` +
      (/^\w[\w.-]*\/[\w.-]+$/.test(preset) ? ` For a model of Hugging Face, write "hf://${preset}".` : ''),
  );
}

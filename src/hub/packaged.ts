/** Presets that ship with the package. */
import {canReadFolders, openFolder, packagedPreset} from '#platform/files';
import {type PresetSource} from '../base/byte_source';
import {ValueError} from '../base/errors';
import {BlobFile} from '../files/blob';
import {HttpPreset} from '../files/http';
import {type HttpOptions} from '../files/http_client';
import {type Resolver} from './resolver';

const PACKAGED = ['gemma3_tiny'];

/** Files by path, or functions that load them, by name of the preset. */
type Imported = Partial<Record<string, () => Promise<Record<string, Blob>>>>;

/**
 * Where `tfjs-gemma3/presets/<name>` registers itself: outside all modules, because a process may have two copies of
 * the package.
 */
const REGISTRY = Symbol.for('tfjs-gemma3.presets');

/** A preset that the program imports. Bundles contain the files of no other. */
async function importedPreset(name: string): Promise<PresetSource | undefined> {
  const files = await (globalThis as {[REGISTRY]?: Imported})[REGISTRY]?.[name]?.();
  if (!files) return undefined;
  return {
    name,
    has: async path => Object.hasOwn(files, path),
    open: async path => {
      if (Object.hasOwn(files, path)) return new BlobFile(path, files[path]!);
      throw new ValueError(`Expected file "${path}" in preset "${name}". Received: ${Object.keys(files).join(', ')}.`);
    },
  };
}

/** The preset in the package's folder, if the program runs from there. */
async function installedPreset(name: string, options: HttpOptions): Promise<PresetSource | undefined> {
  const place = await packagedPreset(name);
  if (place === undefined) return undefined;
  if (canReadFolders) return openFolder(place);
  const preset = new HttpPreset(place, options);
  return (await preset.has('config.json')) ? preset : undefined;
}

export const packaged: Resolver = async (name, options) => {
  if (!PACKAGED.includes(name)) return undefined;
  const preset = (await importedPreset(name)) ?? (await installedPreset(name, options));
  if (preset) return preset;
  throw new ValueError(
    `Expected the files of preset "${name}". Received none: a bundle has only presets that the program imports. Add ` +
      `\`import 'tfjs-gemma3/presets/${name}'\` to it, or serve the folder "presets/${name}" of the package and pass its ` +
      `address. To open a folder of that name, pass "./${name}".`,
  );
};

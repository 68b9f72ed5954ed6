/** Finds the files of a preset from its name. */
import {openFolder} from '#platform/files';
import {type PresetSource} from '../base/byte_source';
import {describeValue, ValueError} from '../base/errors';
import {HttpPreset} from '../files/http';
import {packaged} from './packaged';
import {presets, registeredPreset} from './registry';
import {type Resolver} from './resolver';

/** A folder, an http(s) or file address, the name of a preset in the package, or an open source. */
export type PresetLike = string | URL | PresetSource;

const webAddress: Resolver = async name => (/^https?:\/\//.test(name) ? new HttpPreset(name) : undefined);

const notDownloadable: Resolver = async name => {
  const [, scheme] = /^(kaggle|hf|gs|modelscope):\/\//.exec(name) ?? [];
  if (scheme === undefined) return undefined;
  throw new ValueError(
    `Presets cannot be downloaded from ${scheme} yet. Received: "${name}". ` +
      'Download it with kagglehub or huggingface_hub and pass the path of its folder.',
  );
};

const registeredOnly: Resolver = async name => {
  const entry = registeredPreset(name);
  if (!entry) return undefined;
  throw new ValueError(
    `The files of preset "${name}" are not on this machine and cannot be downloaded yet. Download ` +
      `${entry.kaggleHandle} with kagglehub and pass the path of its folder. Without files the name gives only the ` +
      'architecture: loadWeights: false in code, "gemma3 inspect" on the command line.',
  );
};

/**
 * Resolvers for all kinds of names, in the order in which they are tried. The name of a packaged preset means that
 * preset in every working directory; write `./gemma3_tiny` for a folder of that name.
 */
const resolvers: readonly Resolver[] = [webAddress, notDownloadable, packaged, openFolder, registeredOnly];

/**
 * Opens a preset.
 *
 * @throws ValueError if there is no such preset, with examples of names that would work.
 */
export async function openPreset(preset: PresetLike): Promise<PresetSource> {
  if (preset instanceof URL) return openPreset(preset.href);
  if (typeof (preset as Partial<PresetSource> | null)?.open === 'function') return preset as PresetSource;
  if (typeof preset !== 'string' || preset === '') {
    throw new ValueError(`Expected a preset: a folder, an address or a name. Received: ${describeValue(preset)}.`);
  }
  for (const resolve of resolvers) {
    const source = await resolve(preset);
    if (source) return source;
  }
  throw new ValueError(
    `Expected a preset: the path of a folder, an http(s) address, "gemma3_tiny" or one of ` +
      `${Object.keys(presets).slice(0, 3).join(', ')}… Received: "${preset}", which is none of these.` +
      (/^[\w.-]+\/[\w.-]+$/.test(preset)
        ? ' To use a model of Hugging Face or Kaggle, download its Keras preset and pass the path of its folder.'
        : ''),
  );
}

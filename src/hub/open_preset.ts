/** From what a user calls a preset to the place its files are read from. */
import {openFolder, packagedPreset} from '#platform/files';
import {show, ValueError} from '../base/errors';
import {presets} from './registry';
import {HttpPreset} from '../files/http';
import {type PresetSource} from '../base/byte_source';

/** A folder, an http(s) or file address, the name of the preset in the package, or an open source. */
export type PresetLike = string | URL | PresetSource;

/** Presets that ship with the package. */
const PACKAGED = ['gemma3_tiny'];

/**
 * The files of a preset. The name of the preset in the package is that preset, whatever folder the program runs in;
 * `./gemma3_tiny` is a folder.
 *
 * @throws ValueError if there is no such preset, saying what there is.
 */
export async function openPreset(preset: PresetLike): Promise<PresetSource> {
  if (preset instanceof URL) return openPreset(preset.href);
  if (typeof (preset as Partial<PresetSource> | null)?.open === 'function') return preset as PresetSource;
  if (typeof preset !== 'string' || preset === '') {
    throw new ValueError(`Expected a preset: a folder, an address or a name. Received: ${show(preset)}.`);
  }
  if (/^https?:\/\//.test(preset)) return new HttpPreset(preset);
  if (/^(kaggle|hf|gs|modelscope):\/\//.test(preset)) {
    throw new ValueError(
      `Presets cannot be downloaded from ${preset.split(':')[0]} yet. Received: "${preset}". ` +
        'Download it with kagglehub or huggingface_hub and give the path of its folder.',
    );
  }
  if (PACKAGED.includes(preset)) {
    const packaged = await packagedPreset(preset);
    if (packaged) return packaged;
    throw new ValueError(
      `Expected the files of preset "${preset}" in the package. Received a package without them: install it again. ` +
        `A folder of that name is "./${preset}".`,
    );
  }
  const known = Object.hasOwn(presets, preset) ? presets[preset] : undefined;
  const folder = await openFolder(preset);
  if (folder) return folder;
  if (known) {
    throw new ValueError(
      `The files of preset "${preset}" are not on this machine and cannot be downloaded yet. Download ` +
        `${known.kaggleHandle} with kagglehub and give the path of its folder. Without files the name is good for the ` +
        'architecture alone: loadWeights: false in code, "gemma3 inspect" on the command line.',
    );
  }
  throw new ValueError(
    `Expected a preset: the path of a folder, an http(s) address, "gemma3_tiny" or one of ` +
      `${Object.keys(presets).slice(0, 3).join(', ')}… Received: "${preset}", which is none of these.` +
      (/^[\w.-]+\/[\w.-]+$/.test(preset)
        ? ' To use a model of Hugging Face or Kaggle, download its Keras preset and give the path of its folder.'
        : ''),
  );
}

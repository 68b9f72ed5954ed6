/** Presets that ship with the package. */
import {canReadFolders, openFolder, packagedPreset} from '#platform/files';
import {ValueError} from '../base/errors';
import {HttpPreset} from '../files/http';
import {type Resolver} from './resolver';

const PACKAGED = ['gemma3_tiny'];

export const packaged: Resolver = async name => {
  if (!PACKAGED.includes(name)) return undefined;
  const place = await packagedPreset(name);
  const preset = place && (canReadFolders ? await openFolder(place) : new HttpPreset(place));
  if (preset) return preset;
  throw new ValueError(
    `Expected the files of preset "${name}" in the package. Received a package without them. Reinstall it. ` +
      `To open a folder of that name, pass "./${name}".`,
  );
};

/** Finds `.keras` archives by their names. */
import {type PresetSource} from '../../base/byte_source';

const ARCHIVE = /\.keras$/i;

/** The archive that a source is, or the only one in a folder without a configuration; undefined if there is none. */
export async function archiveIn(source: PresetSource): Promise<string | undefined> {
  const {named} = source;
  if (named !== undefined) return ARCHIVE.test(named) && (await source.has(named)) ? named : undefined;
  const found = ((await source.list?.()) ?? []).filter(file => ARCHIVE.test(file));
  return found.length === 1 && !(await source.has('config.json')) ? found[0] : undefined;
}

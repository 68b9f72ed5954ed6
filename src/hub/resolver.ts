import {type PresetSource} from '../base/byte_source';

/**
 * Opens one kind of preset names. Returns undefined for names of other kinds.
 *
 * @throws ValueError if the name is of this kind but leads to no preset.
 */
export type Resolver = (name: string) => Promise<PresetSource | undefined>;

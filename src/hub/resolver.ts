import {type PresetSource} from '../base/byte_source';

/**
 * One kind of preset names: returns the files behind a name, or undefined if the name is of another kind.
 *
 * @throws ValueError if the name is of this kind but leads to no preset.
 */
export type Resolver = (name: string) => Promise<PresetSource | undefined>;

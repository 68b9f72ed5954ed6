/** The contract of a preset resolver. */
import {type PresetSource} from '../base/byte_source';

/**
 * Opens presets by one kind of name, such as web addresses. Returns undefined for names of other kinds.
 *
 * @throws ValueError if the name is of this kind, but there is no such preset.
 */
export type Resolver = (name: string) => Promise<PresetSource | undefined>;

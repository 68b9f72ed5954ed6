/** The contract of a preset resolver. */
import {type PresetSource} from '../base/byte_source';
import {type HttpOptions} from '../files/http_client';

/** Options of opening a preset. */
export interface OpenPresetOptions extends HttpOptions {
  /**
   * Whether files of a model on a hub are downloaded into the cache when they are opened. False: they are read with
   * range requests, as `gemma3 inspect` does. Defaults to true.
   */
  download?: boolean;
}

/**
 * Opens presets by one kind of name, such as web addresses. Returns undefined for names of other kinds.
 *
 * @throws ValueError if the name is of this kind, but there is no such preset.
 */
export type Resolver = (name: string, options: OpenPresetOptions) => Promise<PresetSource | undefined>;

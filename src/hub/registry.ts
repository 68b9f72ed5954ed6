/** The registry of presets: the data of `presets/`, and lookup by name. */
import registry from '../../presets/gemma3_presets.json';
import {type JsonObject} from '../base/json';

export interface PresetEntry {
  metadata: {
    /** Number of parameters. */
    params: number;
    description: string;
    path: string;
  };
  kaggleHandle: string;
  /** Configuration of the backbone, with keys as Keras writes them. */
  config: JsonObject;
}

/** All presets that KerasHub publishes for Gemma 3, by name. */
export const presets: Readonly<Record<string, PresetEntry>> = registry as unknown as Record<string, PresetEntry>;

export const registeredPreset = (name: string): PresetEntry | undefined =>
  Object.hasOwn(presets, name) ? presets[name] : undefined;

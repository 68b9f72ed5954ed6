/** Presets of other families than Gemma 3. Loaded on demand, for error messages. */
import families from '../../presets/other_families.json';

/** The class of the backbone for which KerasHub publishes a preset of this name, if it is not Gemma 3's. */
export const otherFamilyOf = (name: string): string | undefined =>
  Object.entries(families as Record<string, string>).find(([, names]) => names.split(' ').includes(name))?.[0];

/** From `--sampler`, `--top-k` and the like to a sampler. */
import type {samplers} from 'tfjs-gemma3';

type Library = typeof samplers;

export interface SamplerOptions {
  sampler?: samplers.SamplerName;
  topK?: number;
  topP?: number;
  temperature?: number;
  seed?: number;
}

type Setting = Exclude<keyof SamplerOptions, 'sampler'>;

const FLAGS: Record<Setting, string> = {
  topK: '--top-k',
  topP: '--top-p',
  temperature: '--temperature',
  seed: '--seed',
};

/** Which options each sampler reads, and the argument that each becomes. */
const READS: Record<samplers.SamplerName, Partial<Record<Setting, string>>> = {
  greedy: {},
  random: {temperature: 'temperature', seed: 'seed'},
  top_k: {topK: 'k', temperature: 'temperature', seed: 'seed'},
  top_p: {topP: 'p', topK: 'k', temperature: 'temperature', seed: 'seed'},
};

export const SAMPLERS = Object.keys(READS) as samplers.SamplerName[];

/** The sampler that was named, or the one that the other options are made for. */
function chosenSampler({sampler, topK, topP, temperature, seed}: SamplerOptions): samplers.SamplerName {
  if (sampler) return sampler;
  if (topP !== undefined) return 'top_p';
  if (topK !== undefined) return 'top_k';
  return temperature !== undefined || seed !== undefined ? 'random' : 'greedy';
}

/**
 * A sampler's name and its arguments.
 *
 * @param refuse called, and expected to throw, for an option that the sampler does not read.
 */
export function samplerArgs(
  options: SamplerOptions,
  refuse: (message: string) => never,
): {name: samplers.SamplerName; args: Record<string, number>} {
  const name = chosenSampler(options);
  const args: Record<string, number> = {};
  for (const setting of Object.keys(FLAGS) as Setting[]) {
    const value = options[setting];
    if (value === undefined) continue;
    const argument = READS[name][setting];
    if (!argument) {
      const readers = SAMPLERS.filter(other => READS[other][setting]);
      refuse(
        `option '${FLAGS[setting]}' has no effect with the sampler ${name}. Use it with ${readers.join(', ').replace(/, (?!.*,)/, ' or ')}, ` +
          'or leave it out.',
      );
    }
    args[argument] = value;
  }
  return {name, args};
}

export function makeSampler(
  library: Library,
  {name, args}: {name: samplers.SamplerName; args: Record<string, number>},
): samplers.Sampler {
  const classes: Record<samplers.SamplerName, new (args: Record<string, number>) => samplers.Sampler> = {
    greedy: library.GreedySampler,
    random: library.RandomSampler,
    top_k: library.TopKSampler,
    top_p: library.TopPSampler,
  };
  return new classes[name](args);
}

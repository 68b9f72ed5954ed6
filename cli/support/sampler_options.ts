/** From `--sampler`, `--top-k` and the like to a sampler. */
import type {samplers} from 'tfjs-gemma3';

type Library = typeof samplers;

export interface SamplerOptions {
  sampler?: samplers.SamplerName;
  topK?: number;
  topP?: number;
  minP?: number;
  temperature?: number;
  repetitionPenalty?: number;
  seed?: number;
  numBeams?: number;
  alpha?: number;
  draft?: string;
}

type Setting = Exclude<keyof SamplerOptions, 'sampler'>;

const FLAGS: Record<Setting, string> = {
  topK: '--top-k',
  topP: '--top-p',
  minP: '--min-p',
  temperature: '--temperature',
  repetitionPenalty: '--repetition-penalty',
  seed: '--seed',
  numBeams: '--num-beams',
  alpha: '--alpha',
  draft: '--draft',
};

const PENALTY = {repetitionPenalty: 'repetitionPenalty'};
const DRAWN = {temperature: 'temperature', minP: 'minP', seed: 'seed', ...PENALTY};
const ONE_BY_ONE = {
  greedy: PENALTY,
  random: DRAWN,
  top_k: {topK: 'k', ...DRAWN},
  top_p: {topP: 'p', topK: 'k', ...DRAWN},
};

/** Which options each sampler reads, and the argument that each becomes. */
const READS: Record<samplers.SamplerName, Partial<Record<Setting, string>>> = {
  ...ONE_BY_ONE,
  beam: {numBeams: 'numBeams', temperature: 'temperature', ...PENALTY},
  contrastive: {topK: 'k', alpha: 'alpha', temperature: 'temperature', ...PENALTY},
  // What is guessed is checked by the sampler that the other options are made for.
  speculative: {...ONE_BY_ONE.top_p, draft: 'draft'},
};

export const SAMPLERS = Object.keys(READS) as samplers.SamplerName[];

/** The sampler that was named, or the one that the other options are made for. */
function chosenSampler({sampler, numBeams, draft, ...options}: SamplerOptions): samplers.SamplerName {
  if (sampler) return sampler;
  if (draft !== undefined) return 'speculative';
  return numBeams !== undefined ? 'beam' : chosenBase(options);
}

function chosenBase({topK, topP, minP, temperature, seed}: SamplerOptions): keyof typeof ONE_BY_ONE {
  if (topP !== undefined) return 'top_p';
  if (topK !== undefined) return 'top_k';
  return [minP, temperature, seed].some(value => value !== undefined) ? 'random' : 'greedy';
}

/** A sampler by name, with what it is made from. */
export interface ChosenSampler {
  name: samplers.SamplerName;
  args: Record<string, number>;
  /** Of "speculative": the sampler that it answers as. */
  base?: ChosenSampler;
  /** Of "speculative": the preset that guesses. */
  draft?: string;
}

/**
 * A sampler's name and its arguments.
 *
 * @param refuse called, and expected to throw, for an option that the sampler does not read.
 */
export function samplerArgs(options: SamplerOptions, refuse: (message: string) => never): ChosenSampler {
  const name = chosenSampler(options);
  for (const setting of Object.keys(FLAGS) as Setting[]) {
    if (options[setting] === undefined || READS[name][setting]) continue;
    const readers = SAMPLERS.filter(other => READS[other][setting]);
    refuse(
      `option '${FLAGS[setting]}' has no effect with the sampler ${name}. Use it with ${readers.join(', ').replace(/, (?!.*,)/, ' or ')}, ` +
        'or leave it out.',
    );
  }
  if (name !== 'speculative') return {name, args: argsOf(name, options)};
  const base = chosenBase(options);
  return {name, args: {}, base: {name: base, args: argsOf(base, options)}, draft: options.draft};
}

function argsOf(name: samplers.SamplerName, options: SamplerOptions): Record<string, number> {
  const entries = Object.entries(READS[name]) as [Setting, string][];
  return Object.fromEntries(
    entries.flatMap(([setting, argument]) => {
      const value = options[setting];
      return typeof value === 'number' ? [[argument, value]] : [];
    }),
  );
}

/** @param draft the model that guesses, of a sampler that has one. */
export function makeSampler(
  library: Library,
  {name, args, base}: ChosenSampler,
  draft: samplers.DraftModel | null = null,
): samplers.Sampler {
  if (name === 'speculative') {
    return new library.SpeculativeSampler({draft, baseSampler: base && makeSampler(library, base)});
  }
  type Class = new (args: Record<string, number>) => samplers.Sampler;
  const classes: Record<Exclude<samplers.SamplerName, 'speculative'>, Class> = {
    greedy: library.GreedySampler,
    random: library.RandomSampler,
    top_k: library.TopKSampler,
    top_p: library.TopPSampler,
    beam: library.BeamSampler,
    contrastive: library.ContrastiveSampler,
  };
  return new classes[name](args);
}

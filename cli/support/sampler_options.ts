/** Creates the sampler that `--sampler`, `--top-k` and the other sampling options describe. */
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
const RANDOM = {temperature: 'temperature', minP: 'minP', seed: 'seed', ...PENALTY};
const BASE_SAMPLERS = {
  greedy: PENALTY,
  random: RANDOM,
  top_k: {topK: 'k', ...RANDOM},
  top_p: {topP: 'p', topK: 'k', ...RANDOM},
};

/** The options that each sampler reads, and the names of the arguments they set. */
const ARGUMENTS: Record<samplers.SamplerName, Partial<Record<Setting, string>>> = {
  ...BASE_SAMPLERS,
  beam: {numBeams: 'numBeams', temperature: 'temperature', ...PENALTY},
  contrastive: {topK: 'k', alpha: 'alpha', temperature: 'temperature', ...PENALTY},
  // The other options describe the base sampler, which verifies the proposed tokens.
  speculative: {...BASE_SAMPLERS.top_p, draft: 'draft'},
};

export const SAMPLERS = Object.keys(ARGUMENTS) as samplers.SamplerName[];

/** The named sampler, or the one that the other options belong to. */
function samplerName({sampler, numBeams, draft, ...options}: SamplerOptions): samplers.SamplerName {
  if (sampler) return sampler;
  if (draft !== undefined) return 'speculative';
  return numBeams !== undefined ? 'beam' : baseSamplerName(options);
}

function baseSamplerName({topK, topP, minP, temperature, seed}: SamplerOptions): keyof typeof BASE_SAMPLERS {
  if (topP !== undefined) return 'top_p';
  if (topK !== undefined) return 'top_k';
  return [minP, temperature, seed].some(value => value !== undefined) ? 'random' : 'greedy';
}

/** A sampler's name and arguments. */
export interface ChosenSampler {
  name: samplers.SamplerName;
  args: Record<string, number>;
  /** Only for "speculative": the sampler that verifies the proposed tokens and so determines the text. */
  base?: ChosenSampler;
  /** Only for "speculative": the preset of the draft model. */
  draft?: string;
}

/**
 * The name and arguments of the sampler that the options describe.
 *
 * @param refuse called for an option that the sampler does not read. Must throw.
 */
export function resolveSampler(options: SamplerOptions, refuse: (message: string) => never): ChosenSampler {
  const name = samplerName(options);
  for (const setting of Object.keys(FLAGS) as Setting[]) {
    if (options[setting] === undefined || ARGUMENTS[name][setting]) continue;
    const readers = SAMPLERS.filter(other => ARGUMENTS[other][setting]);
    refuse(
      `option '${FLAGS[setting]}' has no effect with the sampler ${name}. Use it with ${readers.join(', ').replace(/, (?!.*,)/, ' or ')}, ` +
        'or leave it out.',
    );
  }
  if (name !== 'speculative') return {name, args: argsOf(name, options)};
  const base = baseSamplerName(options);
  return {name, args: {}, base: {name: base, args: argsOf(base, options)}, draft: options.draft};
}

function argsOf(name: samplers.SamplerName, options: SamplerOptions): Record<string, number> {
  const entries = Object.entries(ARGUMENTS[name]) as [Setting, string][];
  return Object.fromEntries(
    entries.flatMap(([setting, argument]) => {
      const value = options[setting];
      return typeof value === 'number' ? [[argument, value]] : [];
    }),
  );
}

/** @param draft the draft model of a speculative sampler; without one it proposes tokens from the text itself. */
export function createSampler(
  library: Library,
  {name, args, base}: ChosenSampler,
  draft: samplers.DraftModel | null = null,
): samplers.Sampler {
  if (name === 'speculative') {
    return new library.SpeculativeSampler({draft, baseSampler: base && createSampler(library, base)});
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

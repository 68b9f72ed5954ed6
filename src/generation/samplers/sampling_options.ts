/** The sampler for one call: the options with which `generate` and others override `compile`. */
import {ValueError} from '../../base/errors';
import {byName, get, type SamplerName} from './by_name';
import {Sampler} from './sampler';

/** How tokens are chosen in one call. Options that are left out stay as set by `compile`. */
export interface SamplingOptions {
  /** The sampler of this call, by name or as an instance. By default the compiled one. */
  sampler?: SamplerName | Sampler;
  /** Logits are divided by this: values below 1 make the choice less random, values above 1 more. */
  temperature?: number;
  /** Draw from this many of the most probable tokens. */
  topK?: number;
  /** Draw from the fewest tokens whose total probability reaches this. */
  topP?: number;
  /** Smallest probability of tokens that may be drawn, as a fraction of the largest probability. */
  minP?: number;
  /** Makes the draws of this call repeatable. */
  seed?: number;
  /** As in `samplers.SamplerArgs`. */
  repetitionPenalty?: number;
  /** As in `samplers.SamplerArgs`. */
  presencePenalty?: number;
  /** As in `samplers.SamplerArgs`. */
  frequencyPenalty?: number;
}

type Setting = Exclude<keyof SamplingOptions, 'sampler'>;

const PENALTIES = ['repetitionPenalty', 'presencePenalty', 'frequencyPenalty'] as const;
const SETTINGS: readonly Setting[] = ['temperature', 'topK', 'topP', 'minP', 'seed', ...PENALTIES];

/** Names of the options. */
export const SAMPLING_OPTIONS = ['sampler', ...SETTINGS] as const;

const DRAWING: readonly Setting[] = ['temperature', 'minP', 'seed', ...PENALTIES];

/** The options that each sampler reads. */
const READS: Record<SamplerName, readonly Setting[]> = {
  greedy: PENALTIES,
  random: DRAWING,
  top_k: ['topK', ...DRAWING],
  top_p: ['topP', 'topK', ...DRAWING],
  beam: ['temperature', ...PENALTIES],
  contrastive: ['topK', 'temperature', ...PENALTIES],
  speculative: [],
};

const NAMES = Object.keys(byName) as SamplerName[];

/** The name of a sampler of this package; undefined for an instance of a subclass. */
const nameOf = (sampler: Sampler): SamplerName | undefined => NAMES.find(name => sampler.constructor === byName[name]);

/** The sampler that the settings belong to. */
function nameFor(given: readonly Setting[]): SamplerName {
  if (given.includes('topP')) return 'top_p';
  if (given.includes('topK')) return 'top_k';
  return given.some(setting => DRAWING.includes(setting) && !READS.greedy.includes(setting)) ? 'random' : 'greedy';
}

const ARGUMENTS: Partial<Record<Setting, string>> = {topK: 'k', topP: 'p'};

/**
 * The sampler of a call. Settings without a name change the arguments of the compiled sampler; a greedy one, which
 * never draws, is replaced by `top_p`, `top_k` or `random`.
 *
 * @throws ValueError on settings that the sampler does not read, and on unusable values.
 */
export function samplerForCall(compiled: Sampler, options: SamplingOptions): Sampler {
  const given = SETTINGS.filter(setting => options[setting] !== undefined);
  if (given.length === 0) return options.sampler === undefined ? compiled : get(options.sampler);
  const quoted = given.map(setting => `\`${setting}\``).join(', ');
  if (options.sampler instanceof Sampler) {
    throw new ValueError(
      `Expected a sampler by name together with ${quoted}, or an instance alone. Received: an instance. ` +
        'Pass the settings to its class instead.',
    );
  }
  const own = nameOf(compiled);
  const kept = options.sampler === undefined && own !== 'greedy' ? compiled : undefined;
  const name = options.sampler ?? (kept ? own : nameFor(given));
  if (name === undefined) {
    throw new ValueError(
      `Expected \`sampler\` together with ${quoted}, since the compiled sampler is of your own class. Received: ` +
        `none. Pass one of ${NAMES.map(known => `"${known}"`).join(', ')}.`,
    );
  }
  get(name); // refuses other names
  const unread = given.filter(setting => !READS[name].includes(setting));
  if (unread.length) {
    const advice =
      name === 'speculative'
        ? 'Pass them to its `baseSampler`.'
        : `With it, use ${READS[name].join(', ')}, or pass another \`sampler\`.`;
    throw new ValueError(
      `The sampler "${name}" does not read ${unread.map(setting => `\`${setting}\``).join(', ')}. ${advice}`,
    );
  }
  const args = Object.fromEntries(given.map(setting => [ARGUMENTS[setting] ?? setting, options[setting]]));
  return new byName[name]({...(kept ? argumentsOf(kept, name) : {}), ...args});
}

/** The arguments that a sampler was created with. Greedy sampling takes no temperature. */
function argumentsOf(sampler: Sampler, name: SamplerName): Record<string, unknown> {
  const {temperature, ...rest} = sampler.getConfig();
  return name === 'greedy' ? rest : {temperature, ...rest};
}

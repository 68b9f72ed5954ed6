/** Options of the commands that load a model and generate text. */
import {type Command, Option} from 'commander';
import type {BackendName, CacheDtype, FromPresetOptions, Gemma3CausalLM, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {type Io} from './io';
import {
  backendOption,
  cacheDtypeOption,
  dtypeOption,
  fraction,
  integer,
  positiveInteger,
  positiveNumber,
  presetOption,
  probability,
  refuseThreads,
  threadsOption,
  TINY,
} from './options';
import {addOpeningOptions, headersFor, openingOf, type PresetOptions} from './preset_options';
import {withLoadingBar} from './progress';
import {createSampler, resolveSampler, type SamplerOptions, SAMPLERS} from './sampler_options';

export interface ModelOptions extends SamplerOptions, PresetOptions {
  preset?: string;
  weights?: string;
  lora?: string;
  dtype?: FromPresetOptions['dtype'];
  cacheDtype: CacheDtype;
  backend: BackendName;
  threads?: number;
}

export function addModelOptions(command: Command, backends: readonly BackendName[]): Command {
  return addOpeningOptions(command.addOption(presetOption()))
    .option('--weights <file>', "a .weights.h5 file with the weights, in place of the preset's own")
    .option('--lora <file>', 'LoRA weights, a .lora.h5 file, to merge into the model')
    .addOption(
      new Option(
        '--sampler <name>',
        'how to choose the next token (default: the sampler that the options below belong to, or "greedy")',
      ).choices(SAMPLERS),
    )
    .option(
      '--temperature <number>',
      'below 1 makes the text less random, above 1 more (all samplers but greedy)',
      positiveNumber,
    )
    .option(
      '--top-k <tokens>',
      'choose among this many of the most probable tokens (top_k, top_p, contrastive)',
      positiveInteger,
    )
    .option(
      '--top-p <probability>',
      'choose among the most probable tokens whose probabilities add up to this (top_p)',
      probability,
    )
    .option(
      '--min-p <fraction>',
      'choose among tokens whose probability is at least this fraction of the highest one (random, top_k, top_p)',
      fraction,
    )
    .option('--repetition-penalty <number>', 'above 1 makes repetition less likely (all samplers)', positiveNumber)
    .option('--seed <number>', 'the same seed gives the same text (random, top_k, top_p)', integer)
    .option('--num-beams <beams>', 'number of continuations to search in parallel (beam)', positiveInteger)
    .option(
      '--alpha <number>',
      'how strongly to avoid tokens similar to the text so far, from 0 to 1 (contrastive)',
      fraction,
    )
    .option('--draft <preset>', 'a smaller model that proposes tokens (speculative); no faster on CPUs')
    .addOption(dtypeOption())
    .addOption(cacheDtypeOption())
    .addOption(backendOption(backends))
    .addOption(threadsOption());
}

export interface LoadedModel {
  lm: Gemma3CausalLM;
  backend: string;
  /** Frees the model and its draft model. */
  dispose(): void;
}

/**
 * Returns a function that loads the model of these options and compiles it with their sampler.
 *
 * @param refuse called immediately for options that cannot be combined. Must throw.
 */
export function modelLoader(
  options: ModelOptions,
  io: Io,
  refuse: (message: string) => never,
): (parts?: {preprocessor?: Gemma3CausalLMPreprocessor}) => Promise<LoadedModel> {
  refuseThreads(options, refuse);
  const chosen = resolveSampler(options, refuse);
  return async (parts = {}) => {
    const {Gemma3CausalLM, samplers, useBackend} = await import('tfjs-gemma3');
    const backend = await useBackend(options.backend, options.threads ? {threads: options.threads} : {});
    const {cacheDtype} = options;
    const dtypes = {cacheDtype, ...(options.dtype !== undefined && {dtype: options.dtype})};
    const preset = options.preset ?? TINY;
    type Parts = Pick<FromPresetOptions, 'weights' | 'headers' | 'mmproj'> & {
      preprocessor?: Gemma3CausalLMPreprocessor;
    };
    const load = (name: string, parts: Parts) =>
      withLoadingBar(io, bars => Gemma3CausalLM.fromPreset(name, {...dtypes, ...parts, signal: io.signal, ...bars}));
    const weights = options.weights === undefined ? {} : {weights: options.weights};
    const lm = await load(preset, {...openingOf(options), ...parts, ...weights});
    const models = [lm];
    const dispose = () => models.forEach(model => model.dispose());
    try {
      if (options.lora !== undefined) {
        await lm.backbone.loadLoraWeights(options.lora, headersFor(options.lora, preset, options));
        // Merged weights run in the fastest kernels.
        await lm.mergeLora();
      }
      const draft =
        chosen.draft === undefined ? null : await load(chosen.draft, headersFor(chosen.draft, preset, options));
      if (draft) models.push(draft);
      lm.compile({sampler: createSampler(samplers, chosen, draft)});
      return {lm, backend, dispose};
    } catch (error) {
      dispose();
      throw error;
    }
  };
}

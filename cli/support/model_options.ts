/** Options that commands have in common which load a model and let it write. */
import {type Command, Option} from 'commander';
import type {BackendName, Gemma3CausalLM, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {type Io} from './io';
import {BACKENDS, DTYPES, fraction, integer, positiveInteger, positiveNumber, probability} from './options';
import {loadingBar} from './progress';
import {makeSampler, samplerArgs, type SamplerOptions, SAMPLERS} from './sampler_options';

/** The preset in the package. */
export const TINY = 'gemma3_tiny';

export interface ModelOptions extends SamplerOptions {
  preset?: string;
  lora?: string;
  dtype?: string;
  backend: BackendName;
}

export function addModelOptions(command: Command): Command {
  return command
    .option('--preset <preset>', `folder, address or name of a preset (default: "${TINY}", which is in the package)`)
    .option('--lora <file>', 'a .lora.h5 whose LoRA is merged into the weights')
    .addOption(
      new Option(
        '--sampler <name>',
        'how the next token is chosen (default: the one that other options are for, or else "greedy")',
      ).choices(SAMPLERS),
    )
    .option('--temperature <number>', 'below 1 is less random, above 1 more: all but greedy', positiveNumber)
    .option(
      '--top-k <tokens>',
      'draw from so many of the most probable tokens, or try so many: top_k, top_p, contrastive',
      positiveInteger,
    )
    .option('--top-p <probability>', 'draw from tokens that have this probability together: top_p', probability)
    .option(
      '--min-p <fraction>',
      'draw from tokens at least this probable, of the most probable: random, top_k, top_p',
      fraction,
    )
    .option('--repetition-penalty <number>', 'above 1 repeats less: all samplers', positiveNumber)
    .option('--seed <number>', 'draw the same again: random, top_k, top_p', integer)
    .option('--num-beams <beams>', 'how many continuations are followed: beam', positiveInteger)
    .option('--alpha <number>', 'how much likeness to the text before counts, from 0 to 1: contrastive', fraction)
    .option('--draft <preset>', 'a smaller model that guesses, for speed: speculative')
    .addOption(new Option('--dtype <dtype>', "how weights rest (default: as the preset's)").choices(DTYPES))
    .addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'));
}

export interface LoadedModel {
  lm: Gemma3CausalLM;
  backend: string;
  /** Frees the model, and that which guesses for it. */
  dispose(): void;
}

/**
 * What loads the model that was chosen, with its sampler.
 *
 * @param refuse called, and expected to throw, for options that do not fit together: at once, before anything is loaded.
 */
export function modelLoader(
  options: ModelOptions,
  io: Io,
  refuse: (message: string) => never,
): (given?: {preprocessor?: Gemma3CausalLMPreprocessor}) => Promise<LoadedModel> {
  const chosen = samplerArgs(options, refuse);
  return async (given = {}) => {
    const {Gemma3CausalLM, samplers, useBackend} = await import('tfjs-gemma3');
    const backend = await useBackend(options.backend);
    const load = async (preset: string, given: {preprocessor?: Gemma3CausalLMPreprocessor}) => {
      const bar = loadingBar(io);
      try {
        const {signal} = io;
        const dtype = options.dtype === undefined ? {} : {dtype: options.dtype};
        return await Gemma3CausalLM.fromPreset(preset, {...dtype, ...given, signal, onProgress: bar.onProgress});
      } finally {
        bar.stop();
      }
    };
    const models = [await load(options.preset ?? TINY, given)];
    const dispose = () => models.forEach(model => model.dispose());
    try {
      if (options.lora !== undefined) {
        await models[0]!.backbone.loadLoraWeights(options.lora);
        // Merged, all of it runs in the kernels that are fastest.
        await models[0]!.mergeLora();
      }
      if (chosen.draft !== undefined) models.push(await load(chosen.draft, {}));
      const [lm, draft = null] = models as [Gemma3CausalLM, Gemma3CausalLM?];
      lm.compile({sampler: makeSampler(samplers, chosen, draft)});
      return {lm, backend, dispose};
    } catch (error) {
      dispose();
      throw error;
    }
  };
}

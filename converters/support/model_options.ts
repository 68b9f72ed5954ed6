/** Options that commands have in common which load a model and let it write. */
import {type Command, Option} from 'commander';
import type {BackendName, Gemma3CausalLM} from 'tfjs-gemma3';
import {type Io} from './io';
import {BACKENDS, DTYPES, integer, positiveInteger, positiveNumber, probability} from './options';
import {loadingBar} from './progress';
import {makeSampler, samplerArgs, type SamplerOptions, SAMPLERS} from './sampler_options';

/** The preset in the package. */
export const TINY = 'gemma3_tiny';

export interface ModelOptions extends SamplerOptions {
  preset?: string;
  dtype?: string;
  backend: BackendName;
}

export function addModelOptions(command: Command): Command {
  return command
    .option('--preset <preset>', `folder, address or name of a preset (default: "${TINY}", which is in the package)`)
    .addOption(new Option('--sampler <name>', 'how the next token is chosen (default: "greedy")').choices(SAMPLERS))
    .option('--temperature <number>', 'below 1 is less random, above 1 more: random, top_k, top_p', positiveNumber)
    .option('--top-k <tokens>', 'draw from so many of the most probable tokens: top_k, top_p', positiveInteger)
    .option('--top-p <probability>', 'draw from tokens that have this probability together: top_p', probability)
    .option('--seed <number>', 'draw the same again: random, top_k, top_p', integer)
    .addOption(new Option('--dtype <dtype>', "how weights rest (default: as the preset's)").choices(DTYPES))
    .addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'));
}

/**
 * The model that was chosen, with its sampler; the caller disposes it.
 *
 * @param refuse called, and expected to throw, for options that do not fit together, before anything is loaded.
 */
export async function loadModel(
  options: ModelOptions,
  io: Io,
  refuse: (message: string) => never,
): Promise<{lm: Gemma3CausalLM; backend: string}> {
  const chosen = samplerArgs(options, refuse);
  const {Gemma3CausalLM, samplers, useBackend} = await import('tfjs-gemma3');
  const backend = await useBackend(options.backend);
  const bar = loadingBar(io);
  try {
    const {signal} = io;
    const dtype = options.dtype === undefined ? {} : {dtype: options.dtype};
    const lm = await Gemma3CausalLM.fromPreset(options.preset ?? TINY, {...dtype, signal, onProgress: bar.onProgress});
    lm.compile({sampler: makeSampler(samplers, chosen)});
    return {lm, backend};
  } finally {
    bar.stop();
  }
}

/** `gemma3 generate`: a prompt goes on, as it comes. */
import {addAbortSignal} from 'node:stream';
import {text} from 'node:stream/consumers';
import {type Command, Option} from 'commander';
import type {BackendName, Gemma3CausalLM} from 'tfjs-gemma3';
import {type Io, printJson} from '../support/io';
import {meter} from '../support/meter';
import {
  BACKENDS,
  DTYPES,
  fraction,
  integer,
  positiveInteger,
  positiveNumber,
  probability,
  wholeNumber,
} from '../support/options';
import {loadingBar} from '../support/progress';
import {makeSampler, samplerArgs, type SamplerOptions, SAMPLERS} from '../support/sampler_options';

const TINY = 'gemma3_tiny';
/** The tiny preset was trained to know the answer. */
const DEMO = 'What is the capital of France?';

interface GenerateOptions extends SamplerOptions {
  preset?: string;
  maxLength?: number;
  stripPrompt?: boolean;
  dtype?: string;
  backend: BackendName;
  logprobs?: number;
  json?: boolean;
}

const EXAMPLES = `
PROMPT - is read from standard input, as is a prompt that is left out when that is no terminal; a line break at its end
is not part of it. Without PROMPT and --preset, the preset in the package answers a question.

Examples:
  $ gemma3 generate "What is the capital of France?"
  $ gemma3 generate --preset ./gemma3_270m "Once upon a time" --max-length 60
  $ gemma3 generate --preset ./gemma3_270m --top-p 0.9 --seed 1 --json - < prompt.txt
`;

export function addGenerate(program: Command, io: Io): void {
  const command = program
    .command('generate')
    .description('continue a prompt')
    .argument('[PROMPT]', 'text to continue')
    .option('--preset <preset>', `folder, address or name of a preset (default: "${TINY}", which is in the package)`)
    .option('--max-length <tokens>', "length of prompt and new text together (default: the preset's)", positiveInteger)
    .addOption(new Option('--sampler <name>', 'how the next token is chosen (default: "greedy")').choices(SAMPLERS))
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
    .option('--logprobs <tokens>', 'with --json: how probable new tokens were, and so many in their place', wholeNumber)
    .option('--strip-prompt', 'print only the new text')
    .addOption(new Option('--dtype <dtype>', "how weights rest (default: as the preset's)").choices(DTYPES))
    .addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'))
    .option('--json', 'print one JSON object: the text, how many tokens, how many seconds')
    .addHelpText('after', EXAMPLES);
  command.action((prompt: string | undefined, options: GenerateOptions) => generate(command, prompt, options, io));
}

async function generate(command: Command, prompt: string | undefined, options: GenerateOptions, io: Io): Promise<void> {
  const refuse = (message: string): never => command.error(`error: ${message}`);
  const chosen = samplerArgs(options, refuse);
  if (options.logprobs !== undefined && !options.json) {
    refuse("option '--logprobs' has no effect without '--json'. Use both, or leave it out.");
  }
  const question = await readPrompt(prompt, options.preset, io, refuse);

  const {Gemma3CausalLM, samplers, useBackend} = await import('tfjs-gemma3');
  const backend = await useBackend(options.backend);
  const load = async (preset: string): Promise<Gemma3CausalLM> => {
    const bar = loadingBar(io);
    try {
      const {signal} = io;
      const dtype = options.dtype === undefined ? {} : {dtype: options.dtype};
      return await Gemma3CausalLM.fromPreset(preset, {...dtype, signal, onProgress: bar.onProgress});
    } finally {
      bar.stop();
    }
  };
  const lm = await load(options.preset ?? TINY);
  let draft: Gemma3CausalLM | null = null;
  try {
    if (chosen.draft !== undefined) draft = await load(chosen.draft);
    lm.compile({sampler: makeSampler(samplers, chosen, draft)});
    if (options.json) await printResult(lm, question, options, backend, io);
    else await printText(lm, question, options, io);
  } finally {
    draft?.dispose();
    lm.dispose();
  }
}

async function readPrompt(
  prompt: string | undefined,
  preset: string | undefined,
  io: Io,
  refuse: (message: string) => never,
): Promise<string> {
  if (prompt !== undefined && prompt !== '-') return prompt;
  if (prompt === undefined && io.stdin.isTTY) {
    if (preset === undefined) return DEMO;
    return refuse("missing argument 'PROMPT': give a text, or - to read it from standard input.");
  }
  const read = (await text(addAbortSignal(io.signal, io.stdin))).replace(/\r?\n$/, '');
  if (read) return read;
  if (prompt === undefined && preset === undefined) return DEMO;
  return refuse("missing argument 'PROMPT': standard input was empty.");
}

/** Tokens of the prompt, cut to the length that was asked for as generation cuts them. */
function promptTokens(lm: Gemma3CausalLM, prompt: string, maxLength: number | undefined): number {
  return lm.preprocessor!.promptTokens(prompt, {sequenceLength: maxLength}).tokens[0]!.length;
}

async function printText(
  lm: Gemma3CausalLM,
  prompt: string,
  {maxLength, stripPrompt = false}: GenerateOptions,
  io: Io,
): Promise<void> {
  try {
    const pieces = lm.stream(prompt, {maxLength, stripPrompt, signal: io.signal});
    for await (const piece of pieces) io.stdout.write(piece);
  } finally {
    io.stdout.write('\n');
  }
  const limit = maxLength ?? lm.preprocessor!.sequenceLength;
  if (promptTokens(lm, prompt, maxLength) >= limit) {
    io.stderr.write(`The prompt fills all ${limit} tokens: there is no new text. Raise --max-length for some.\n`);
  }
}

async function printResult(
  lm: Gemma3CausalLM,
  prompt: string,
  {maxLength, stripPrompt = false, logprobs}: GenerateOptions,
  backend: string,
  io: Io,
): Promise<void> {
  const count = promptTokens(lm, prompt, maxLength);
  const stop = meter(lm.sampler);
  const common = {maxLength, stripPrompt, signal: io.signal};
  const result =
    logprobs === undefined
      ? {text: await lm.generate(prompt, common)}
      : await lm.generate(prompt, {...common, logprobs});
  const {newTokens, prefillSeconds, decodeSeconds} = stop();
  printJson(io, {...result, promptTokens: count, newTokens, prefillSeconds, decodeSeconds, backend});
}

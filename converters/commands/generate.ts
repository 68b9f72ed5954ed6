/** `gemma3 generate`: a prompt goes on, as it comes. */
import {addAbortSignal} from 'node:stream';
import {text} from 'node:stream/consumers';
import {type Command, Option} from 'commander';
import type {BackendName, Gemma3CausalLM, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {type Io, printJson} from '../support/io';
import {meter} from '../support/meter';
import {
  BACKENDS,
  collect,
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
/** The tiny preset was trained to know the answers, by how many images are given. */
const DEMO = ['What is the capital of France?', 'What is in the picture?', 'What is in these images?'];

/** A prompt, or one with images. */
type Question = string | {prompts: string; images: string[]};

interface GenerateOptions extends SamplerOptions {
  preset?: string;
  image?: string[];
  maxLength?: number;
  stripPrompt?: boolean;
  stop?: string[];
  dtype?: string;
  backend: BackendName;
  logprobs?: number;
  json?: boolean;
}

const EXAMPLES = `
PROMPT - is read from standard input, as is a prompt that is left out when that is no terminal; a line break at its end
is not part of it. Without PROMPT and --preset, the preset in the package answers a question.

In PROMPT, <start_of_image> says where an image goes, once for each --image and in their order. A prompt without any has
its images in front: <start_of_image> for each, a space, PROMPT.

Examples:
  $ gemma3 generate "What is the capital of France?"
  $ gemma3 generate --preset ./gemma3_270m "Once upon a time" --max-length 60
  $ gemma3 generate --image picture.png "What is in the picture?"
  $ gemma3 generate --preset ./gemma3_270m --top-p 0.9 --seed 1 --json - < prompt.txt
`;

export function addGenerate(program: Command, io: Io): void {
  const command = program
    .command('generate')
    .description('continue a prompt')
    .argument('[PROMPT]', 'text to continue')
    .option('--preset <preset>', `folder, address or name of a preset (default: "${TINY}", which is in the package)`)
    .option('--image <file>', 'a PNG or JPEG file that the prompt is about; give it again for more', repeated)
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
    .option('--stop <text>', 'end the new text before this one; may be given more than once', collect)
    .addOption(new Option('--dtype <dtype>', "how weights rest (default: as the preset's)").choices(DTYPES))
    .addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'))
    .option('--json', 'print one JSON object: the text, how many tokens, how many seconds')
    .addHelpText('after', EXAMPLES);
  command.action((prompt: string | undefined, options: GenerateOptions) => generate(command, prompt, options, io));
}

const repeated = (value: string, before: string[] = []) => [...before, value];

async function generate(command: Command, prompt: string | undefined, options: GenerateOptions, io: Io): Promise<void> {
  const refuse = (message: string): never => command.error(`error: ${message}`);
  const chosen = samplerArgs(options, refuse);
  if (options.logprobs !== undefined && !options.json) {
    refuse("option '--logprobs' has no effect without '--json'. Use both, or leave it out.");
  }
  const text = await readPrompt(prompt, options, io, refuse);

  const {Gemma3CausalLM, Gemma3CausalLMPreprocessor, samplers, useBackend} = await import('tfjs-gemma3');
  const backend = await useBackend(options.backend);
  const preset = options.preset ?? TINY;
  // What is wrong with images is told before a model is loaded, which may take minutes.
  const preprocessor = options.image && (await Gemma3CausalLMPreprocessor.fromPreset(preset));
  const question = preprocessor ? await aboutImages(text, options, preprocessor) : text;
  const load = async (preset: string, given: {preprocessor?: Gemma3CausalLMPreprocessor}): Promise<Gemma3CausalLM> => {
    const bar = loadingBar(io);
    try {
      const {signal} = io;
      const dtype = options.dtype === undefined ? {} : {dtype: options.dtype};
      return await Gemma3CausalLM.fromPreset(preset, {...dtype, ...given, signal, onProgress: bar.onProgress});
    } finally {
      bar.stop();
    }
  };
  const lm = await load(preset, preprocessor ? {preprocessor} : {});
  let draft: Gemma3CausalLM | null = null;
  try {
    if (chosen.draft !== undefined) draft = await load(chosen.draft, {});
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
  {preset, image = []}: GenerateOptions,
  io: Io,
  refuse: (message: string) => never,
): Promise<string> {
  if (prompt !== undefined && prompt !== '-') return prompt;
  const demo = DEMO[Math.min(image.length, DEMO.length - 1)]!;
  if (prompt === undefined && io.stdin.isTTY) {
    if (preset === undefined) return demo;
    return refuse("missing argument 'PROMPT': give a text, or - to read it from standard input.");
  }
  const read = (await text(addAbortSignal(io.signal, io.stdin))).replace(/\r?\n$/, '');
  if (read) return read;
  if (prompt === undefined && preset === undefined) return demo;
  return refuse("missing argument 'PROMPT': standard input was empty.");
}

/** A prompt with its images, after everything that may be wrong with them was looked for. */
async function aboutImages(
  text: string,
  {image = [], preset = TINY, maxLength}: GenerateOptions,
  preprocessor: Gemma3CausalLMPreprocessor,
): Promise<Question> {
  const {startOfImageToken} = preprocessor.tokenizer;
  if (preprocessor.textOnlyModel) {
    throw new Error(
      `Expected a preset that takes images. Received: "${preset}", which is of text alone. Leave out --image.`,
    );
  }
  const prompts = text.includes(startOfImageToken) ? text : `${startOfImageToken.repeat(image.length)} ${text}`;
  const question = {prompts, images: image};
  const {images} = await preprocessor.promptTokens(question, {sequenceLength: maxLength});
  for (const tensor of images) tensor?.dispose();
  return question;
}

/** How many tokens the prompt has, cut to the length that was asked for as generation cuts them. */
async function promptTokens(lm: Gemma3CausalLM, question: Question, maxLength: number | undefined): Promise<number> {
  // Images need not be read again to be counted.
  const text = typeof question === 'string' ? question : question.prompts;
  const {tokens} = await lm.preprocessor!.promptTokens(text, {sequenceLength: maxLength});
  return tokens[0]!.length;
}

async function printText(
  lm: Gemma3CausalLM,
  prompt: Question,
  {maxLength, stripPrompt = false, stop: stopStrings}: GenerateOptions,
  io: Io,
): Promise<void> {
  try {
    const pieces = lm.stream(prompt, {maxLength, stripPrompt, stopStrings, signal: io.signal});
    for await (const piece of pieces) io.stdout.write(piece);
  } finally {
    io.stdout.write('\n');
  }
  const limit = maxLength ?? lm.preprocessor!.sequenceLength;
  if ((await promptTokens(lm, prompt, maxLength)) >= limit) {
    io.stderr.write(`The prompt fills all ${limit} tokens: there is no new text. Raise --max-length for some.\n`);
  }
}

async function printResult(
  lm: Gemma3CausalLM,
  prompt: Question,
  {maxLength, stripPrompt = false, stop: stopStrings, logprobs}: GenerateOptions,
  backend: string,
  io: Io,
): Promise<void> {
  const count = await promptTokens(lm, prompt, maxLength);
  const stop = meter(lm.sampler);
  const common = {maxLength, stripPrompt, stopStrings, signal: io.signal};
  const result =
    logprobs === undefined
      ? {text: await lm.generate(prompt, common)}
      : await lm.generate(prompt, {...common, logprobs});
  const {newTokens, prefillSeconds, decodeSeconds} = stop();
  printJson(io, {...result, promptTokens: count, newTokens, prefillSeconds, decodeSeconds, backend});
}

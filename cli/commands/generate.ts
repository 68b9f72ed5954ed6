/** `gemma3 generate`: a prompt goes on, as it comes. */
import {addAbortSignal} from 'node:stream';
import {text} from 'node:stream/consumers';
import {type Command} from 'commander';
import type {Gemma3CausalLM, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {checkImages, imagePreprocessor, type Question as ImageQuestion} from '../support/images';
import {type Io, printJson} from '../support/io';
import {meter} from '../support/meter';
import {addModelOptions, modelLoader, type ModelOptions, TINY} from '../support/model_options';
import {collect, positiveInteger, wholeNumber} from '../support/options';

/** The tiny preset was trained to know the answers, by how many images are given. */
const DEMO = ['What is the capital of France?', 'What is in the picture?', 'What is in these images?'];

/** A prompt, or one with images. */
type Question = string | ImageQuestion;

interface GenerateOptions extends ModelOptions {
  image?: string[];
  maxLength?: number;
  stripPrompt?: boolean;
  stop?: string[];
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
  const command = program.command('generate').description('continue a prompt').argument('[PROMPT]', 'text to continue');
  addModelOptions(command)
    .option('--image <file>', 'a PNG or JPEG file that the prompt is about; may be given more than once', collect)
    .option('--max-length <tokens>', "length of prompt and new text together (default: the preset's)", positiveInteger)
    .option('--logprobs <tokens>', 'with --json: how probable new tokens were, and so many in their place', wholeNumber)
    .option('--strip-prompt', 'print only the new text')
    .option('--stop <text>', 'end the new text before this one; may be given more than once', collect)
    .option('--json', 'print one JSON object: the text, how many tokens, how many seconds')
    .addHelpText('after', EXAMPLES);
  command.action((prompt: string | undefined, options: GenerateOptions) => generate(command, prompt, options, io));
}

async function generate(command: Command, prompt: string | undefined, options: GenerateOptions, io: Io): Promise<void> {
  const refuse = (message: string): never => command.error(`error: ${message}`);
  const load = modelLoader(options, io, refuse);
  if (options.logprobs !== undefined && !options.json) {
    refuse("option '--logprobs' has no effect without '--json'. Use both, or leave it out.");
  }
  const text = await readPrompt(prompt, options, io, refuse);

  // What is wrong with images is told before a model is loaded, which may take minutes.
  const preprocessor = options.image && (await imagePreprocessor(options.preset ?? TINY, options.backend));
  const question = preprocessor ? await aboutImages(text, options, preprocessor) : text;
  const {lm, backend, dispose} = await load(preprocessor && {preprocessor});
  try {
    if (options.json) await printResult(lm, question, options, backend, io);
    else await printText(lm, question, options, io);
  } finally {
    dispose();
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
  {image = [], maxLength}: GenerateOptions,
  preprocessor: Gemma3CausalLMPreprocessor,
): Promise<Question> {
  const {startOfImageToken} = preprocessor.tokenizer;
  const prompts = text.includes(startOfImageToken) ? text : `${startOfImageToken.repeat(image.length)} ${text}`;
  const question = {prompts, images: image};
  await checkImages(preprocessor, question, maxLength);
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

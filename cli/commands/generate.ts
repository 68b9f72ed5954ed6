/** `gemma3 generate`: continues a prompt and prints the text while it is generated. */
import {addAbortSignal} from 'node:stream';
import {text} from 'node:stream/consumers';
import {type Command} from 'commander';
import type {ContextFullError, Gemma3CausalLM, Gemma3CausalLMPreprocessor, PrefillProgress} from 'tfjs-gemma3';
import {checkImages, imagePreprocessor, type ImagePrompt} from '../support/images';
import {type Io, printJson} from '../support/io';
import {meter} from '../support/meter';
import {addModelOptions, modelLoader, type ModelOptions} from '../support/model_options';
import {type Choices, collect, positiveInteger, TINY, wholeNumber} from '../support/options';

/** Questions that the tiny preset was trained to answer: without images, with one and with several. */
const DEMO = ['What is the capital of France?', 'What is in the picture?', 'What is in these images?'];

type Prompt = string | ImagePrompt;

interface GenerateOptions extends ModelOptions {
  image?: string[];
  maxLength?: number;
  stripPrompt?: boolean;
  stop?: string[];
  logprobs?: number;
  json?: boolean;
}

const EXAMPLES = `
If PROMPT is -, the prompt is read from standard input, without the line break at its end. So it is if PROMPT is missing,
unless standard input is a terminal. If both PROMPT and --preset are missing, the preset that ships with the package answers
a sample question.

In PROMPT, each <start_of_image> marks the position of one --image, in the same order. If PROMPT contains none, all images
are placed before it.

Examples:
  $ gemma3 generate "What is the capital of France?"
  $ gemma3 generate --preset ./gemma3_270m "Once upon a time" --max-length 60
  $ gemma3 generate --image picture.png "What is in the picture?"
  $ gemma3 generate --preset ./gemma3_270m --top-p 0.9 --seed 1 --json - < prompt.txt
`;

export function addGenerate(program: Command, io: Io, {backends}: Choices): void {
  const command = program.command('generate').description('continue a prompt').argument('[PROMPT]', 'text to continue');
  addModelOptions(command, backends)
    .option('--image <file>', 'PNG or JPEG file for the prompt; may be repeated', collect)
    .option(
      '--max-length <tokens>',
      "maximum length of the prompt and the new text together (default: the preset's)",
      positiveInteger,
    )
    .option(
      '--logprobs <tokens>',
      'with --json: log probabilities of each new token, and of this many of the most probable tokens at its position',
      wholeNumber,
    )
    .option('--strip-prompt', 'print only the new text')
    .option('--stop <text>', 'end the new text before this text; may be repeated', collect)
    .option('--json', 'print one JSON object: text, token counts and seconds')
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

  // Check the images before loading the model, which may take minutes.
  const preprocessor = options.image && (await imagePreprocessor(options.preset ?? TINY, options.backend));
  const full = preprocessor ? await withImages(text, options, preprocessor) : text;
  const {lm, backend, dispose} = await load(preprocessor && {preprocessor});
  try {
    if (options.json) await printResult(lm, full, options, backend, io);
    else await printText(lm, full, options, io);
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
    return refuse("missing argument 'PROMPT': pass a text, or - to read it from standard input.");
  }
  const read = (await text(addAbortSignal(io.signal, io.stdin))).replace(/\r?\n$/, '');
  if (read) return read;
  if (prompt === undefined && preset === undefined) return demo;
  return refuse("missing argument 'PROMPT': standard input was empty.");
}

/** Adds the images to the prompt and checks both. */
async function withImages(
  text: string,
  {image = [], maxLength}: GenerateOptions,
  preprocessor: Gemma3CausalLMPreprocessor,
): Promise<ImagePrompt> {
  const {startOfImageToken} = preprocessor.tokenizer;
  const prompts = text.includes(startOfImageToken) ? text : `${startOfImageToken.repeat(image.length)} ${text}`;
  const prompt = {prompts, images: image};
  await checkImages(preprocessor, prompt, maxLength);
  return prompt;
}

async function printText(
  lm: Gemma3CausalLM,
  prompt: Prompt,
  {maxLength, stripPrompt = false, stop: stopStrings}: GenerateOptions,
  io: Io,
): Promise<void> {
  try {
    const pieces = lm.stream(prompt, {maxLength, stripPrompt, stopStrings, signal: io.signal});
    for await (const piece of pieces) io.stdout.write(piece);
  } catch (error) {
    throw explained(error);
  } finally {
    io.stdout.write('\n');
  }
}

async function printResult(
  lm: Gemma3CausalLM,
  prompt: Prompt,
  {maxLength, stripPrompt = false, stop: stopStrings, logprobs}: GenerateOptions,
  backend: string,
  io: Io,
): Promise<void> {
  let promptTokens = 0;
  const stop = meter(lm.sampler);
  const onPrefill = ({total}: PrefillProgress) => (promptTokens = total);
  const common = {maxLength, stripPrompt, stopStrings, signal: io.signal, onPrefill};
  try {
    const result =
      logprobs === undefined
        ? {text: await lm.generate(prompt, common)}
        : await lm.generate(prompt, {...common, logprobs});
    const {newTokens, prefillSeconds, decodeSeconds} = stop();
    printJson(io, {...result, promptTokens, newTokens, prefillSeconds, decodeSeconds, backend});
  } catch (error) {
    throw explained(error);
  }
}

/** Names the option of the command where the library names its own. */
function explained(error: unknown): unknown {
  const {name, maxLength} = error as Partial<ContextFullError>;
  if (name !== 'ContextFullError') return error;
  return new Error(
    `The prompt fills all ${maxLength} tokens, so there is no new text. Raise --max-length to generate some.`,
  );
}

/** `gemma3 generate`: continues a prompt and prints the text while it is generated. */
import {type Command} from 'commander';
import type {ContextFullError, Ending, Gemma3CausalLM, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {describeEnding, plural} from '../support/format';
import {checkImages, type ImageOptions, imagePreprocessor, type ImagePrompt, loadPreprocessor} from '../support/images';
import {type Io, printJson} from '../support/io';
import {meter} from '../support/meter';
import {addModelOptions, type LoadedModel, modelLoader, type ModelOptions} from '../support/model_options';
import {type Choices, collect, imageOrientationOption, positiveInteger, TINY, wholeNumber} from '../support/options';
import {type LinePrompt, parsePromptLine, stdinLines} from '../support/prompt_lines';
import {readStdin} from '../support/utf8';

/** Questions that the tiny preset was trained to answer: without images, with one and with several. */
const DEMO = ['What is the capital of France?', 'What is in the picture?', 'What is in these images?'];

type Prompt = LinePrompt['prompt'];

interface GenerateOptions extends ModelOptions, ImageOptions {
  image?: string[];
  maxLength?: number;
  maxNewTokens?: number;
  details?: boolean;
  stripPrompt?: boolean;
  stop?: string[];
  logprobs?: number;
  json?: boolean;
  jsonl?: boolean;
}

const EXAMPLES = `
If PROMPT is -, the prompt is read from standard input, without the line break at its end. So it is if PROMPT is missing,
unless standard input is a terminal. If both PROMPT and --preset are missing, the preset that ships with the package answers
a sample question.

In PROMPT, each <start_of_image> marks the position of one --image, in the same order. If PROMPT contains none, all images
are placed before it.

With --jsonl, the model is loaded once, and each line of standard input is one prompt: {"prompt": "…"}, with images also
"images": ["FILE", …], or {"messages": [{"role": "user", "content": "…"}, …]}. Each answer is one line, printed before the
next prompt is read. An "id" is copied to the answer. A line that cannot be answered gets {"line": …, "error": "…"}, and the
command fails at the end.

Examples:
  $ gemma3 generate "What is the capital of France?"
  $ gemma3 generate --preset ./gemma3_270m "Once upon a time" --max-length 60
  $ gemma3 generate --image picture.png "What is in the picture?"
  $ gemma3 generate --preset ./gemma3_270m --top-p 0.9 --seed 1 --json - < prompt.txt
  $ gemma3 generate --preset ./gemma3_270m --jsonl --max-new-tokens 40 < prompts.jsonl > answers.jsonl
`;

export function addGenerate(program: Command, io: Io, {backends}: Choices): void {
  const command = program.command('generate').description('continue a prompt').argument('[PROMPT]', 'text to continue');
  addModelOptions(command, backends)
    .option('--image <file>', 'image file for the prompt, or its address; may be repeated', collect)
    .addOption(imageOrientationOption())
    .option(
      '--max-length <tokens>',
      "maximum length of the prompt and the new text together (default: the preset's)",
      positiveInteger,
    )
    .option(
      '--max-new-tokens <tokens>',
      'maximum length of the new text alone, instead of --max-length',
      positiveInteger,
    )
    .option(
      '--logprobs <tokens>',
      'with --json or --jsonl: log probabilities of each new token, and of this many of the most probable tokens at ' +
        'its position',
      wholeNumber,
    )
    .option('--strip-prompt', 'print only the new text')
    .option('--stop <text>', 'end the new text before this text; may be repeated', collect)
    .option('--details', 'also print to standard error why the text ended, and how many tokens it has')
    .option('--json', 'print one JSON object: text, why it ended, token counts and seconds')
    .option('--jsonl', 'read prompts from standard input as JSON Lines, and print one JSON object per line for each')
    .addHelpText('after', EXAMPLES);
  command.action((prompt: string | undefined, options: GenerateOptions) => generate(command, prompt, options, io));
}

async function generate(command: Command, prompt: string | undefined, options: GenerateOptions, io: Io): Promise<void> {
  const refuse = (message: string): never => command.error(`error: ${message}`);
  const load = modelLoader(options, io, refuse);
  if (options.json && options.jsonl) {
    refuse("options '--json' and '--jsonl' exclude each other. Leave out one of them.");
  }
  if (options.logprobs !== undefined && !options.json && !options.jsonl) {
    refuse("option '--logprobs' has no effect without '--json' or '--jsonl'. Use it with one, or leave it out.");
  }
  if (options.details && (options.json || options.jsonl)) {
    const other = options.json ? '--json' : '--jsonl';
    refuse(`option '--details' has no effect with '${other}', which prints the same. Leave one of them out.`);
  }
  if (options.maxLength !== undefined && options.maxNewTokens !== undefined) {
    refuse("options '--max-length' and '--max-new-tokens' exclude each other. Leave out one of them.");
  }
  if (options.imageOrientation && !options.image && !options.jsonl) {
    refuse("option '--image-orientation' has no effect without '--image' or '--jsonl'. Use both, or leave it out.");
  }
  if (options.jsonl) {
    if (prompt !== undefined) refuse("option '--jsonl' reads prompts from standard input. Leave out 'PROMPT'.");
    if (options.image) refuse(`option '--jsonl' takes images from its lines: {"prompt": "…", "images": ["FILE"]}.`);
    return generateLines(options, io, load);
  }
  const text = await readPrompt(prompt, options, io, refuse);

  // Check the images before loading the model, which may take minutes.
  const preprocessor = options.image && (await imagePreprocessor(options.preset ?? TINY, options.backend, options));
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
  const read = (await readStdin(io)).replace(/\r?\n$/, '');
  if (read) return read;
  if (prompt === undefined && preset === undefined) return demo;
  return refuse("missing argument 'PROMPT': standard input was empty.");
}

/** Adds the images to the prompt and checks both. */
async function withImages(
  text: string,
  {image = [], maxLength, maxNewTokens}: GenerateOptions,
  preprocessor: Gemma3CausalLMPreprocessor,
): Promise<ImagePrompt> {
  const prompt = placeImages({prompts: text, images: image}, preprocessor);
  // With --max-new-tokens, prompts are not cut.
  await checkImages(preprocessor, prompt, maxNewTokens === undefined ? maxLength : Number.MAX_SAFE_INTEGER);
  return prompt;
}

/** If a prompt does not mark the places of its images, they go in front. */
function placeImages({prompts, images}: ImagePrompt, {tokenizer}: Gemma3CausalLMPreprocessor): ImagePrompt {
  const {startOfImageToken} = tokenizer;
  const placed = prompts.includes(startOfImageToken);
  return {prompts: placed ? prompts : `${startOfImageToken.repeat(images.length)} ${prompts}`, images};
}

async function printText(
  lm: Gemma3CausalLM,
  prompt: Prompt,
  {details = false, ...options}: GenerateOptions,
  io: Io,
): Promise<void> {
  let ending: Ending | undefined;
  const onFinish = (given: Ending) => (ending = given);
  try {
    const pieces = lm.stream(prompt, {...commonOptions(options, prompt), onFinish, signal: io.signal});
    for await (const piece of pieces) io.stdout.write(piece);
  } catch (error) {
    throw explained(error);
  } finally {
    io.stdout.write('\n');
    if (details && ending) io.stderr.write(`${describeEnding(ending)}\n`);
  }
}

/** The options of `generate` and `stream` that follow from the command's options. */
const commonOptions = ({maxLength, maxNewTokens, stripPrompt, stop: stopStrings}: GenerateOptions, prompt: Prompt) => ({
  // For messages, only the answer is printed.
  ...{stripPrompt: stripPrompt ?? Array.isArray(prompt), stopStrings},
  ...(maxLength !== undefined && {maxLength}),
  ...(maxNewTokens !== undefined && {maxNewTokens}),
});

/** Answers the lines of standard input, each before the next one is read. */
async function generateLines(
  options: GenerateOptions,
  io: Io,
  load: (parts?: {preprocessor?: Gemma3CausalLMPreprocessor}) => Promise<LoadedModel>,
): Promise<void> {
  const preprocessor = options.imageOrientation && (await loadPreprocessor(options.preset ?? TINY, options));
  const {lm, backend, dispose} = await load(preprocessor && {preprocessor});
  let [lines, failed] = [0, 0];
  try {
    for await (const {line, text} of stdinLines(io)) {
      let id: {id?: unknown} = {};
      let answer: object;
      try {
        const {prompt: given, ...rest} = parsePromptLine(text());
        id = rest;
        const hasImages = typeof given === 'object' && 'images' in given && given.images.length > 0;
        const prompt = hasImages ? placeImages(given, lm.preprocessor as Gemma3CausalLMPreprocessor) : given;
        answer = await resultOf(lm, prompt, options, backend, io);
      } catch (error) {
        if (io.signal.aborted) throw error;
        if (typeof error === 'object' && error !== null && 'id' in error) id = {id: error.id};
        answer = {line, error: (error as Error).message};
        failed += 1;
      }
      lines += 1;
      io.stdout.write(`${JSON.stringify({...id, ...answer})}\n`);
    }
  } finally {
    dispose();
  }
  if (failed)
    throw new Error(`${failed} of ${plural(lines, 'line')} could not be answered: see "error" in the output.`);
}

async function printResult(
  lm: Gemma3CausalLM,
  prompt: Prompt,
  options: GenerateOptions,
  backend: string,
  io: Io,
): Promise<void> {
  printJson(io, await resultOf(lm, prompt, options, backend, io));
}

/** The object that `--json` prints. */
async function resultOf(
  lm: Gemma3CausalLM,
  prompt: Prompt,
  {logprobs, ...options}: GenerateOptions,
  backend: string,
  io: Io,
): Promise<object> {
  const stop = meter(lm.sampler);
  const common = {...commonOptions(options, prompt), details: true, signal: io.signal} as const;
  try {
    // The two calls have results of different types.
    const given = prompt as string;
    const {usage, ...result} = await (logprobs === undefined
      ? lm.generate(given, common)
      : lm.generate(given, {...common, logprobs}));
    const {prefillSeconds, decodeSeconds} = stop();
    return {...result, ...usage, prefillSeconds, decodeSeconds, backend};
  } catch (error) {
    throw explained(error);
  }
}

/** Replaces the library's option name in an error with the command's. */
function explained(error: unknown): unknown {
  const {name, maxLength} = error as Partial<ContextFullError>;
  if (name !== 'ContextFullError') return error;
  return new Error(
    `The prompt fills all ${maxLength} tokens, so there is no new text. Raise --max-length to generate some, or use ` +
      '--max-new-tokens.',
  );
}

/** `gemma3 finetune`: trains LoRA on examples in a file. */
import {fileURLToPath} from 'node:url';
import {type Command, Option} from 'commander';
import type {Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {type FinetuneOptions, FinetuneRun} from '../support/finetune_run';
import {loadPreprocessor} from '../support/images';
import type {Io} from '../support/io';
import {
  backendOption,
  type Choices,
  collect,
  dtypeOption,
  fraction,
  imageOrientationOption,
  integer,
  positiveInteger,
  positiveNumber,
  TINY,
} from '../support/options';
import {addOpeningOptions, openingOf} from '../support/preset_options';
import {withLoadingBar} from '../support/progress';
import {type Example, readExamples, trainingTexts} from '../support/training_data';
import {exists, RunFiles, type Settings} from '../support/training_run';

const EXAMPLES = `
The --data file is JSON Lines (one object per line), a JSON array of objects, or CSV with column names in its first line,
separated by commas, semicolons or tabs. The command sees which it is, and says so. Its objects or rows have the keys:
  prompt, response               The model learns to write the response after the prompt, and to end the text after it. Nothing
                                 is inserted between the two, so include the space or line break that separates them, or use
                                 --chat. Also under the names completion, prompts and responses; several responses in a list.
  messages                       A conversation, [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}, …].
                                 The model learns each answer after everything before it, in Gemma's chat template.
  instruction, [input,] output   As one question and its answer, in Gemma's chat template.
Add images with "image": "FILE" or "images": ["FILE", …]; paths are relative to the --data file. In the prompt, each
<start_of_image> marks the position of one image; without any, images are placed before the prompt.

KerasHub can read the output NAME.lora.h5 too. Next to it the command writes NAME.report.json and the chart NAME.loss.svg, and
NAME.checkpoint while it runs. Ctrl-C ends the run after the current step. --resume continues it with the same losses, bit for
bit.

Examples:
  $ gemma3 finetune --preset ./gemma3_270m --data emails.jsonl --output emails.lora.h5
  $ gemma3 finetune --preset ./gemma3_270m --data emails.jsonl --output emails.lora.h5 --resume
  $ gemma3 finetune --preset ./gemma3_270m --data answers.csv --chat --output answers.lora.h5
  $ gemma3 generate --preset ./gemma3_270m --lora emails.lora.h5 "Ada Lovelace, example.org ->"
`;

export function addFinetune(program: Command, io: Io, {backends}: Choices): void {
  const command = program
    .command('finetune')
    .description('train LoRA on examples')
    .requiredOption('--data <file>', 'training examples: JSON Lines, a JSON array or CSV')
    .requiredOption('--output <file>', 'file to write, NAME.lora.h5')
    .option('--preset <preset>', 'folder, URL or name of a preset', TINY)
    .option('--validation <file>', 'more examples, on which to measure the loss after each epoch')
    .option(
      '--validation-split <fraction>',
      'use this fraction of the --data file for validation instead, taken from its end',
      fraction,
    )
    .option('--rank <number>', 'rank of LoRA', positiveInteger, 4)
    .option('--alpha <number>', 'scale LoRA by alpha / rank (default: the rank)', positiveNumber)
    .option('--target <name>', 'layers to add LoRA to; may be repeated (default: queries and values)', collect)
    .option('--epochs <number>', 'number of passes over the examples', positiveInteger, 3)
    .option('--batch-size <examples>', 'examples per step', positiveInteger, 4)
    .option('--accumulate <steps>', 'average the gradients of this many steps per weight update', positiveInteger)
    .option('--learning-rate <number>', 'highest learning rate', positiveNumber, 5e-4)
    .addOption(
      new Option('--schedule <name>', 'learning rate after the warm-up')
        .choices(['cosine', 'constant'])
        .default('cosine'),
    )
    .option(
      '--warmup <fraction>',
      'fraction of all steps in which the learning rate rises to its highest value',
      fraction,
      0.05,
    )
    .option('--weight-decay <number>', 'weight decay of AdamW', fraction, 0.01)
    .option('--clip-norm <number>', 'upper limit of the norm of all gradients together', positiveNumber, 1)
    .option(
      '--max-length <tokens>',
      "maximum length of prompt and response together (default: the preset's)",
      positiveInteger,
    )
    .addOption(imageOrientationOption())
    .option('--truncate', 'cut longer examples instead of stopping with an error')
    .option('--chat', "format prompts and responses as turns of Gemma's chat template")
    .option('--recompute', 'compute activations twice, which needs less memory but a third more time')
    .option('--seed <number>', 'seed of the order of examples and the initial values of LoRA', integer, 0)
    .addOption(dtypeOption('frozen weights'))
    .addOption(backendOption(backends))
    .option('--checkpoint-every <steps>', 'steps between two checkpoints', positiveInteger, 100)
    .option('--resume', 'continue an interrupted run')
    .option('--force', 'start over and replace existing files')
    .option('--json', 'print one JSON object: losses, seconds and files')
    .addHelpText('after', EXAMPLES);
  addOpeningOptions(command).action((options: FinetuneOptions) =>
    finetune(options, io, message => command.error(`error: ${message}`)),
  );
}

/** The options that determine the losses, which must be the same when a run is resumed. */
function settingsOf(options: FinetuneOptions): Settings {
  // Headers may hold passwords, which must not get into a file.
  const {header: _h, resume: _r, force: _f, json: _j, checkpointEvery: _c, output: _o, target, ...rest} = options;
  const defaults = {
    validation: null,
    validationSplit: null,
    alpha: null,
    accumulate: null,
    maxLength: null,
    imageOrientation: null,
    dtype: null,
    mmproj: null,
  };
  const flags = {truncate: false, chat: false, recompute: false};
  return {...defaults, ...flags, ...rest, target: target?.join() ?? null};
}

async function finetune(options: FinetuneOptions, io: Io, refuse: (message: string) => never): Promise<void> {
  if (!options.output.endsWith('.lora.h5')) {
    refuse(`option '--output <file>' expected a name that ends in .lora.h5. Received: "${options.output}".`);
  }
  if (options.validation !== undefined && options.validationSplit !== undefined) {
    refuse("option '--validation-split' has no effect with '--validation'. Leave out one of them.");
  }
  if (options.accumulate === 1) {
    refuse("option '--accumulate' expected at least 2. Received: 1. Leave it out to update weights at every step.");
  }
  const files = new RunFiles(/^file:\/\//.test(options.output) ? fileURLToPath(options.output) : options.output);
  const settings = settingsOf(options);
  if (!options.resume && !options.force) await refuseExisting(files);
  const previous = options.resume ? await files.load(settings) : null;
  const descriptions: string[] = [];
  const read = async (path: string) => {
    const {examples, description} = await readExamples(path);
    descriptions.push(description);
    return examples;
  };
  const examples = await read(options.data);
  const validationExamples = options.validation === undefined ? [] : await read(options.validation);

  if (options.imageOrientation && ![...examples, ...validationExamples].some(({images}) => images.length > 0)) {
    refuse("option '--image-orientation' has no effect without images in the examples. Leave it out.");
  }
  const {Gemma3CausalLM, useBackend} = await import('tfjs-gemma3');
  const backend = await useBackend(options.backend);
  const {maxLength: sequenceLength} = options;
  const preprocessor = await loadPreprocessor(options.preset, {...options, sequenceLength});
  const [data, validation] = await Promise.all([
    prepareExamples(examples, options.data, preprocessor, options),
    prepareExamples(validationExamples, options.validation ?? '', preprocessor, options),
  ]);
  await files.prepare();
  if (!options.json) io.stderr.write(descriptions.map(text => `${text}\n`).join(''));
  const dtype = options.dtype === undefined ? {} : {dtype: options.dtype};
  const lm = await withLoadingBar(io, bars =>
    Gemma3CausalLM.fromPreset(options.preset, {
      ...openingOf(options),
      ...dtype,
      preprocessor,
      signal: io.signal,
      ...bars,
    }),
  );
  try {
    await new FinetuneRun(lm, options, files, io, settings, backend, previous).train(data, validation);
  } finally {
    lm.dispose();
  }
}

/** @throws Error if the run would replace the files of another run. */
async function refuseExisting(files: RunFiles): Promise<void> {
  if (await exists(files.checkpoint)) {
    throw new Error(
      `Expected no interrupted run. Received: "${files.checkpoint}". Use --resume to continue it, or --force to start over.`,
    );
  }
  if (await exists(files.output)) {
    throw new Error(`Expected a file that does not exist. Received: "${files.output}". Use --force, or another name.`);
  }
}

/**
 * Adds image marks and the chat template to the examples.
 *
 * @throws Error for examples that are too long, and for images if the model is text-only.
 */
async function prepareExamples(
  examples: readonly Example[],
  path: string,
  preprocessor: Gemma3CausalLMPreprocessor,
  {chat, truncate, preset}: FinetuneOptions,
): Promise<Example[]> {
  const {applyChatTemplate} = await import('tfjs-gemma3');
  const {tokenizer, sequenceLength, textOnlyModel} = preprocessor;
  const prepared = examples.map(example => {
    const {images, line, response} = example;
    if (images.length && textOnlyModel) {
      throw new Error(
        `Expected examples without images for "${preset}", which is text-only. Received: an image in line ${line} of "${path}".`,
      );
    }
    let {prompt} = example;
    if (images.length && !prompt.includes(tokenizer.startOfImageToken)) {
      prompt = `${tokenizer.startOfImageToken.repeat(images.length)} ${prompt}`;
    }
    if (!chat || example.templated) return {...example, prompt};
    const template = {addGenerationPrompt: true, allowControlTokens: true};
    return {
      ...example,
      prompt: applyChatTemplate([{role: 'user', content: prompt}], template),
      response: `${response}<end_of_turn>`,
    };
  });
  if (truncate || prepared.length === 0) return prepared;
  // A huge sequence length, so that nothing is cut.
  const lengths = preprocessor.packedLengths(trainingTexts(prepared), {sequenceLength: 2 ** 31});
  const tooLong = lengths.flatMap((length, i) => (length > sequenceLength ? [i] : []));
  const [first] = tooLong;
  if (first === undefined) return prepared;
  throw new Error(
    `Expected examples of at most ${sequenceLength} tokens in "${path}". Received: ${tooLong.length} longer ones, line ` +
      `${prepared[first]!.line} first with ${lengths[first]} tokens; the longest has ${Math.max(...lengths)}. Raise ` +
      '--max-length, or use --truncate to cut them.',
  );
}

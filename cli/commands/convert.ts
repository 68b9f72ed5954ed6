/** `gemma3 convert`: writes a preset in another format or dtype, file by file. */
import {stat} from 'node:fs/promises';
import {join, parse} from 'node:path';
import {type Command, Option} from 'commander';
import type {ConvertPresetOptions} from 'tfjs-gemma3';
import {formatCount} from '../support/format';
import {type Io, printJson} from '../support/io';
import {addOpeningOptions, openingOf, type PresetOptions} from '../support/preset_options';
import {type Choices, dtypeOption, positiveNumber} from '../support/options';
import {withBars} from '../support/progress';
import {refuseExisting} from '../support/targets';

interface ConvertOptions extends PresetOptions {
  /** Left out for a .gguf file as the target. */
  to?: ConvertPresetOptions['to'];
  dtype?: ConvertPresetOptions['dtype'];
  lora?: string;
  weights?: string;
  shardSize?: number;
  maxShardSize?: number;
  force?: boolean;
  json?: boolean;
}

const EXAMPLES = `
PRESET is a folder, a .gguf or .keras file, a URL, the name of a preset, or a model on a hub (kaggle://…, hf://…). OUT is a
folder, or a .gguf file. A folder must be empty or not exist, and a file must not exist, unless you use --force.

With --to tfjs, the command writes a model.json that tf.loadLayersModel can read; with --to keras, a preset that KerasHub can
read; with --to huggingface, a folder for transformers, or for sentence-transformers if the model is an embedder. This
package reads all of them as presets. The dtypes int8 and int4 need --to tfjs, and float16 needs --to huggingface. With --to
gguf, the command writes a file for llama.cpp, Ollama and what is built on them, and next to it mmproj-… with the vision
encoder, if there is one; their dtypes are f32, f16, bf16, q8_0 and q4_0. Memory never holds the whole model.

Examples:
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_tfjs --to tfjs --dtype int8
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_float32 --to keras --dtype float32
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_poems --to keras --lora poems.lora.h5
  $ gemma3 convert ./gemma3_4b ./gemma-3-4b --to huggingface --dtype bfloat16 --shard-size 2000
  $ gemma3 convert ./gemma3_270m ./gemma3_270m-Q8_0.gguf --dtype q8_0
`;

export function addConvert(program: Command, io: Io, {formats}: Choices): void {
  const command = program
    .command('convert')
    .description('write a preset in another format or dtype')
    .argument('<PRESET>', 'preset to read')
    .argument('<OUT>', 'folder or .gguf file to write')
    .addOption(
      new Option('--to <FORMAT>', 'format to write (default: gguf for a .gguf file)').choices(
        formats.map(({name}) => name),
      ),
    )
    .addOption(dtypeOption('weights', [...new Set(formats.flatMap(({dtypes}) => dtypes))]))
    .option('--weights <FILE>', "a .weights.h5 file with the weights, in place of the preset's own")
    .option('--lora <FILE>', 'LoRA weights, a .lora.h5 file or a GGUF adapter, to merge into the weights')
    .option(
      '--shard-size <MB>',
      'with tfjs and huggingface: size of each weight file (default: 32, and 5000 for huggingface)',
      positiveNumber,
    )
    .option(
      '--max-shard-size <GB>',
      'with keras: split the weights into files of at most this size (default: 10)',
      positiveNumber,
    )
    .option('--force', 'write into a folder that is not empty, and replace files that have the same names')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES);
  addOpeningOptions(command);
  command.action(async (preset: string, out: string, options: ConvertOptions) => {
    const refuse = (message: string) => command.error(`error: ${message}`, {exitCode: 2});
    const to = options.to ?? (isGguf(out) ? 'gguf' : refuse("required option '--to <FORMAT>' not specified"));
    if (to !== 'gguf' && isGguf(out)) refuse(`'${out}' is a file, which '--to ${to}' does not write.`);
    checkCombination({...options, to}, formats, refuse);
    await convert(preset, out, {...options, to}, io);
  });
}

const isGguf = (out: string): boolean => /\.gguf$/i.test(out);

/** The options with a format. */
type Complete = ConvertOptions & Required<Pick<ConvertOptions, 'to'>>;

/** Flags of the options that only some formats have. */
const FORMAT_FLAGS = {shardSize: '--shard-size', maxShardSize: '--max-shard-size'} as const;

/** Refuses options that have no effect in combination with others. */
function checkCombination(options: Complete, formats: Choices['formats'], refuse: (message: string) => never): void {
  const {to, dtype} = options;
  const {dtypes, dtypesNote, options: known} = formats.find(({name}) => name === to)!;
  if (dtype !== undefined && !dtypes.includes(dtype)) {
    const others = formats.filter(other => other.dtypes.includes(dtype)).map(({name}) => `'--to ${name}'`);
    refuse(`option '--dtype ${dtype}' needs ${others.join(' or ')}.${dtypesNote ? ` ${dtypesNote}` : ''}`);
  }
  for (const [name, flag] of Object.entries(FORMAT_FLAGS)) {
    const given = options[name as keyof typeof FORMAT_FLAGS] !== undefined;
    if (given && !known.includes(name)) refuse(`option '${flag}' has no effect with '--to ${to}'.`);
  }
}

async function convert(preset: string, out: string, options: Complete, io: Io): Promise<void> {
  const {to, dtype, lora, weights, shardSize, maxShardSize, force, json} = options;
  if (!force) await refuseTaken(out);
  const {convertPreset, formatBytes, useBackend} = await import('tfjs-gemma3');
  // Packing to integers runs on a backend, and so does unpacking them for a GGUF file; floats are only copied.
  if (dtype === 'int8' || dtype === 'int4' || to === 'gguf') await useBackend();
  const started = performance.now();
  const result = await withBars(io, show =>
    convertPreset(preset, out, {
      to,
      ...openingOf(options),
      ...(dtype && {dtype}),
      ...(lora !== undefined && {lora}),
      ...(weights !== undefined && {weights}),
      ...(shardSize !== undefined && {shardSize: Math.max(1, Math.round(shardSize * 1e6))}),
      ...(maxShardSize !== undefined && {maxShardSize}),
      onProgress: ({file, saved, total}) => show('Writing', file, saved, total),
      onDownload: ({file, loaded, total}) => show('Downloading', file, loaded, total),
      signal: io.signal,
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  if (json) {
    printJson(io, {preset, out, to, ...result, seconds});
    return;
  }
  const {files, bytes, parameters} = result;
  io.stdout.write(
    `${out}: ${formatCount(parameters)} parameters as ${result.dtype}, ${formatBytes(bytes)} of weights in ` +
      `${files.length} files, ${seconds.toFixed(1)} s\n`,
  );
}

async function refuseTaken(out: string): Promise<void> {
  if (!isGguf(out)) return refuseExisting(out);
  const {dir, base} = parse(out);
  for (const path of [out, join(dir, `mmproj-${base}`)]) {
    const taken = await stat(path).catch(() => undefined);
    if (taken)
      throw new Error(`Expected a file that does not exist. Received: "${path}". Use --force, or another name.`);
  }
}

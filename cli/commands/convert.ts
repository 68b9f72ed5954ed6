/** `gemma3 convert`: writes a preset in another format or dtype, file by file. */
import {readdir, stat} from 'node:fs/promises';
import {type Command, Option} from 'commander';
import type {ConvertPresetOptions} from 'tfjs-gemma3';
import {formatCount} from '../support/format';
import {type Io, printJson} from '../support/io';
import {type Choices, dtypeOption, positiveNumber} from '../support/options';
import {withBytesBar} from '../support/progress';

interface ConvertOptions {
  to: ConvertPresetOptions['to'];
  dtype?: ConvertPresetOptions['dtype'];
  lora?: string;
  shardSize?: number;
  maxShardSize?: number;
  force?: boolean;
  json?: boolean;
}

const EXAMPLES = `
PRESET is a folder, a URL or the name of the preset that ships with the package. OUT is a folder. It must be empty or not
exist, unless you use --force.

With --to tfjs, the command writes a model.json that tf.loadLayersModel can read; with --to keras, a preset that KerasHub can
read. This package reads both as presets. The dtypes int8 and int4 need --to tfjs. Memory never holds the whole model.

Examples:
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_tfjs --to tfjs --dtype int8
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_float32 --to keras --dtype float32
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_poems --to keras --lora poems.lora.h5
`;

export function addConvert(program: Command, io: Io, {formats}: Choices): void {
  const command = program
    .command('convert')
    .description('write a preset in another format or dtype')
    .argument('<PRESET>', 'preset to read')
    .argument('<OUT>', 'folder to write')
    .addOption(
      new Option('--to <FORMAT>', 'format to write').choices(formats.map(({name}) => name)).makeOptionMandatory(),
    )
    .addOption(dtypeOption())
    .option('--lora <FILE>', 'LoRA weights, a .lora.h5 file, to merge into the weights')
    .option('--shard-size <MB>', 'with tfjs: size of each weight file (default: 32)', positiveNumber)
    .option(
      '--max-shard-size <GB>',
      'with keras: split the weights into files of at most this size (default: 10)',
      positiveNumber,
    )
    .option('--force', 'write into a folder that is not empty, and replace files that have the same names')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES);
  command.action(async (preset: string, out: string, options: ConvertOptions) => {
    checkCombination(options, formats, message => command.error(`error: ${message}`, {exitCode: 2}));
    await convert(preset, out, options, io);
  });
}

/** Flags of the options that only some formats have. */
const FORMAT_FLAGS = {shardSize: '--shard-size', maxShardSize: '--max-shard-size'} as const;

/** Refuses options that have no effect in combination with others. */
function checkCombination(
  options: ConvertOptions,
  formats: Choices['formats'],
  refuse: (message: string) => never,
): void {
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

async function convert(preset: string, out: string, options: ConvertOptions, io: Io): Promise<void> {
  const {to, dtype, lora, shardSize, maxShardSize, force, json} = options;
  if (!force) await refuseExisting(out);
  const {convertPreset, formatBytes, useBackend} = await import('tfjs-gemma3');
  // Packing to integers runs on a backend; floats are only copied.
  if (dtype === 'int8' || dtype === 'int4') await useBackend();
  const started = performance.now();
  const result = await withBytesBar(io, 'Writing', update =>
    convertPreset(preset, out, {
      to,
      ...(dtype && {dtype}),
      ...(lora !== undefined && {lora}),
      ...(shardSize !== undefined && {shardSize: Math.max(1, Math.round(shardSize * 1e6))}),
      ...(maxShardSize !== undefined && {maxShardSize}),
      onProgress: ({file, saved, total}) => update(file, saved, total),
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

async function refuseExisting(out: string): Promise<void> {
  const found = await stat(out).catch(() => undefined);
  // What a conversion left that was killed is not the user's, and is removed by the next one.
  const isEmpty = async () => (await readdir(out)).every(name => name.startsWith('.saving-'));
  if (!found || (found.isDirectory() && (await isEmpty()))) return;
  throw new Error(
    `Expected an empty folder, or one that does not exist. Received: "${out}". Use --force, or another name.`,
  );
}

/** `gemma3 convert`: a preset in another format or dtype, file to file. */
import {readdir, stat} from 'node:fs/promises';
import {type Command, Option} from 'commander';
import type {ConvertPresetOptions} from 'tfjs-gemma3';
import {formatBytes, formatCount} from '../support/format';
import {type Io, printJson} from '../support/io';
import {DTYPES, positiveNumber} from '../support/options';
import {bytesBar} from '../support/progress';

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
PRESET is a folder, an address or the name of the preset in the package. OUT is a folder, which must not exist or be
empty, unless --force is given. It has model.json for tf.loadLayersModel with --to tfjs, or what KerasHub reads with
--to keras; either is a preset itself. The model is never in memory as a whole.

Examples:
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_tfjs --to tfjs --dtype int8
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_float32 --to keras --dtype float32
  $ gemma3 convert ./gemma3_270m ./gemma3_270m_poems --to keras --lora poems.lora.h5
`;

export function addConvert(program: Command, io: Io): void {
  const command = program
    .command('convert')
    .description('write a preset in another format or dtype')
    .argument('<PRESET>', 'preset to read')
    .argument('<OUT>', 'folder to write')
    .addOption(new Option('--to <FORMAT>', 'what to write').choices(['tfjs', 'keras']).makeOptionMandatory())
    .addOption(new Option('--dtype <D>', 'how weights rest; int8 and int4 with tfjs alone').choices([...DTYPES]))
    .option('--lora <FILE>', 'a .lora.h5 whose LoRA is merged into the weights')
    .option('--shard-size <MB>', 'with tfjs: size of a file of weights (default: 32)', positiveNumber)
    .option('--max-shard-size <GB>', 'with keras: one file up to this size (default: 10)', positiveNumber)
    .option('--force', 'write into a folder that has files: those of the same names are replaced')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES);
  command.action(async (preset: string, out: string, options: ConvertOptions) => {
    checkCombination(options, message => command.error(`error: ${message}`, {exitCode: 2}));
    await convert(preset, out, options, io);
  });
}

/** Options that would have no effect. */
function checkCombination({to, dtype, ...sizes}: ConvertOptions, refuse: (message: string) => never): void {
  if (to === 'keras' && (dtype === 'int8' || dtype === 'int4')) {
    refuse(
      `option '--dtype ${dtype}' needs '--to tfjs': the format in which Keras keeps quantized weights is not written.`,
    );
  }
  if (to === 'keras' && sizes.shardSize !== undefined) refuse("option '--shard-size' has no effect with '--to keras'.");
  if (to === 'tfjs' && sizes.maxShardSize !== undefined) {
    refuse("option '--max-shard-size' has no effect with '--to tfjs': use '--shard-size'.");
  }
}

async function convert(preset: string, out: string, options: ConvertOptions, io: Io): Promise<void> {
  const {to, dtype, lora, shardSize, maxShardSize, force, json} = options;
  if (!force) await refuseExisting(out);
  const {convertPreset, useBackend} = await import('tfjs-gemma3');
  // Integers are packed by the kernels of a backend; floats go through as they are.
  if (dtype === 'int8' || dtype === 'int4') await useBackend();
  const bar = bytesBar(io, 'Writing');
  const started = performance.now();
  let result;
  try {
    result = await convertPreset(preset, out, {
      to,
      ...(dtype && {dtype}),
      ...(lora !== undefined && {lora}),
      ...(shardSize !== undefined && {shardSize: Math.max(1, Math.round(shardSize * 1e6))}),
      ...(maxShardSize !== undefined && {maxShardSize}),
      onProgress: ({file, saved, total}) => bar.update(file, saved, total),
      signal: io.signal,
    });
  } finally {
    bar.stop();
  }
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
  if (!found || (found.isDirectory() && (await readdir(out)).length === 0)) return;
  throw new Error(
    `Expected a folder to write that does not exist or is empty. Received: "${out}". Use --force, or another name.`,
  );
}

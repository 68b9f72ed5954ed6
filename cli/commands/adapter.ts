/** `gemma3 adapter`: converts LoRA to the format of another program. */
import {type Command, Option} from 'commander';
import type {Gemma3Backbone} from 'tfjs-gemma3';
import {type Io, printJson} from '../support/io';
import {addHeaderOption, headersFor, openingOf, type PresetOptions} from '../support/preset_options';
import {refuseExisting, refuseExistingFile} from '../support/targets';

interface AdapterOptions extends Pick<PresetOptions, 'header'> {
  preset: string;
  to: string;
  baseModel?: string;
  force?: boolean;
  json?: boolean;
}

/** A format in which adapters are written. */
interface AdapterFormat {
  readonly name: string;
  /** Whether it is a folder and not a file. */
  readonly folder: boolean;
  write(backbone: Gemma3Backbone, out: string, options: AdapterOptions): Promise<void>;
}

const FORMATS: readonly AdapterFormat[] = [
  {name: 'keras', folder: false, write: (backbone, out) => backbone.saveLoraWeights(out)},
  {
    name: 'peft',
    folder: true,
    write: (backbone, out, {baseModel}) => backbone.exportPeftAdapter(out, {baseModel: baseModel ?? null}),
  },
  {name: 'gguf', folder: false, write: (backbone, out) => backbone.exportGgufAdapter(out)},
];

const EXAMPLES = `
ADAPTER is a .lora.h5 file, an adapter of Hugging Face's PEFT, a folder, or one of llama.cpp, a .gguf file. OUT is a .lora.h5
file with --to keras, a folder with --to peft, and a .gguf file with --to gguf. The preset is the model that the adapter is for: it says which layers there are. Its weights are not
read, so the name of a preset is enough.

Examples:
  $ gemma3 adapter poems.lora.h5 ./poems --to peft --preset gemma3_270m --base-model google/gemma-3-270m
  $ gemma3 adapter ./poems poems.lora.h5 --to keras --preset gemma3_270m
`;

export function addAdapter(program: Command, io: Io): void {
  const command = program
    .command('adapter')
    .description('convert LoRA to the format of another program')
    .argument('<ADAPTER>', 'adapter to read')
    .argument('<OUT>', 'file or folder to write')
    .addOption(
      new Option('--to <FORMAT>', 'format to write').choices(FORMATS.map(({name}) => name)).makeOptionMandatory(),
    )
    .requiredOption('--preset <preset>', 'the model that the adapter is for: folder, URL or name of a preset')
    .option('--base-model <NAME>', 'with peft: the name of that model on Hugging Face, which PEFT loads first')
    .option('--force', 'replace a file, or files in a folder that is not empty')
    .option('--json', 'print one JSON object')
    .addHelpText('after', EXAMPLES);
  addHeaderOption(command);
  command.action(async (adapter: string, out: string, options: AdapterOptions) => {
    const {to, baseModel} = options;
    if (baseModel !== undefined && to !== 'peft') {
      command.error(`error: option '--base-model' has no effect with '--to ${to}'.`, {exitCode: 2});
    }
    await convertAdapter(adapter, out, options, io);
  });
}

async function convertAdapter(adapter: string, out: string, options: AdapterOptions, io: Io): Promise<void> {
  const {preset, to, force, json} = options;
  const format = FORMATS.find(({name}) => name === to)!;
  if (!force) await (format.folder ? refuseExisting(out) : refuseExistingFile(out));
  const {Gemma3Backbone} = await import('tfjs-gemma3');
  const backbone = await Gemma3Backbone.fromPreset(preset, {loadWeights: false, ...openingOf(options)});
  try {
    const requests = headersFor(adapter, preset, options);
    if (/\.(lora\.h5|gguf)$/i.test(adapter)) await backbone.loadLoraWeights(adapter, requests);
    else await backbone.importPeftAdapter(adapter, requests);
    io.signal.throwIfAborted();
    await format.write(backbone, out, options);
    const parameters = backbone.trainableWeights.reduce(
      (sum, {shape}) => sum + shape.reduce<number>((n, size) => n * size!, 1),
      0,
    );
    if (json) printJson(io, {adapter, out, to, preset, parameters});
    else io.stdout.write(`${out}: LoRA as ${to}, ${parameters.toLocaleString('en-US')} parameters\n`);
  } finally {
    backbone.dispose();
  }
}

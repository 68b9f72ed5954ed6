/** `gemma3 download`: downloads a model from a hub. */
import {type Command} from 'commander';
import {plural} from '../support/format';
import {type Io, printJson} from '../support/io';
import {addHeaderOption, openingOf, type PresetOptions} from '../support/preset_options';
import {withBytesBar} from '../support/progress';

interface DownloadOptions extends Pick<PresetOptions, 'header'> {
  to?: string;
  offline?: boolean;
  json?: boolean;
}

const HELP = `
NAME is a name that "gemma3 presets" lists, a model on Kaggle (kaggle://owner/model/framework/variation, perhaps with
/version) or on Hugging Face (hf://owner/name, perhaps with @revision and /folder or /file.gguf), or the URL of a preset's
folder.

Files go into the cache that kagglehub or huggingface_hub use as well, and are not downloaded again. After Ctrl-C, or if the
connection fails, the same command continues where it stopped. Models of Google need that you accept their licence on
their page, and credentials: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or ~/.kaggle/kaggle.json; HF_TOKEN, or
what "hf auth login" saves.

Examples:
  $ gemma3 download gemma3_instruct_1b
  $ gemma3 download hf://google/gemma-3-270m-it --to ./gemma-3-270m-it
  $ gemma3 generate --preset gemma3_instruct_1b "Why is the sky blue?"
`;

export function addDownload(program: Command, io: Io): void {
  const command = program
    .command('download')
    .description('download a model from Kaggle, Hugging Face or a web server')
    .argument('<NAME>', 'model to download')
    .option('--to <DIR>', 'folder for the files, instead of the cache')
    .option('--offline', 'use only what is in the cache')
    .option('--json', 'print one JSON object')
    .addHelpText('after', HELP);
  addHeaderOption(command).action((name: string, options: DownloadOptions) => download(name, options, io));
}

async function download(name: string, {to, offline, json, ...options}: DownloadOptions, io: Io): Promise<void> {
  const {downloadPreset, formatBytes} = await import('tfjs-gemma3');
  const started = performance.now();
  const result = await withBytesBar(io, 'Downloading', update =>
    downloadPreset(name, {
      ...openingOf(options),
      ...(to !== undefined && {to}),
      ...(offline && {offline}),
      signal: io.signal,
      onProgress: ({file, loaded, total}) => update(file, loaded, total),
      onWait: () => void io.stderr.write('Another process is downloading this model. Waiting for it.\n'),
    }),
  );
  const seconds = (performance.now() - started) / 1000;
  if (json) {
    printJson(io, {...result, seconds});
    return;
  }
  const {folder, files, received} = result;
  const how = received ? `${formatBytes(received)} in ${seconds.toFixed(1)} s` : 'all of them were there already';
  io.stdout.write(`${folder}: ${plural(files.length, 'file')}, ${how}\n`);
}

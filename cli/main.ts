/** The command line as a function of arguments and streams that returns the exit code, independent of the process. */
import {Command, CommanderError} from 'commander';
import {version} from '../package.json';
import {addAdapter} from './commands/adapter';
import {addBench} from './commands/bench';
import {addCache} from './commands/cache';
import {addChat} from './commands/chat';
import {addConvert} from './commands/convert';
import {addDoctor} from './commands/doctor';
import {addDownload} from './commands/download';
import {addEmbed} from './commands/embed';
import {addFinetune} from './commands/finetune';
import {addGenerate} from './commands/generate';
import {addInspect} from './commands/inspect';
import {addPresets} from './commands/presets';
import {addSetupCuda} from './commands/setup_cuda';
import {report} from './support/errors';
import {EXIT, type Io} from './support/io';
import {type Choices} from './support/options';

const COMMANDS = [
  addGenerate,
  addChat,
  addEmbed,
  addFinetune,
  addInspect,
  addPresets,
  addDownload,
  addCache,
  addConvert,
  addAdapter,
  addDoctor,
  addSetupCuda,
  addBench,
];

const HELP = `
Run "gemma3 <command> --help" for the options of a command and examples. Start with "gemma3 generate", which needs no files.
If a command fails, set GEMMA3_DEBUG=1 in the environment to see where.
`;

async function loadChoices(): Promise<Choices> {
  const {backendNames: backends, conversionFormats: formats} = await import('tfjs-gemma3');
  return {backends, formats};
}

/**
 * Runs one command. Never rejects.
 *
 * @param argv arguments without the interpreter and the script.
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const program = new Command('gemma3')
    .description("Run Google's Gemma 3 on TensorFlow.js.")
    .version(version)
    .exitOverride()
    .configureOutput({writeOut: text => void io.stdout.write(text), writeErr: text => void io.stderr.write(text)})
    .showHelpAfterError('Add --help to show the usage.')
    .addHelpText('after', HELP);
  try {
    // Loading the package takes a moment, and a single argument, such as --help or --version, does not need it.
    const choices = argv.length > 1 ? await loadChoices() : {backends: [], formats: []};
    for (const add of COMMANDS) add(program, io, choices);
    await program.parseAsync(argv, {from: 'user'});
    return EXIT.success;
  } catch (error) {
    // Commander has already printed its message. It throws for --help and --version too, with exit code 0.
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? EXIT.success : EXIT.usage;
    }
    if (io.signal.aborted) return EXIT.interrupted;
    report(error, io);
    return EXIT.failure;
  }
}

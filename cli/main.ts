/** The command line without the process: arguments and streams in, exit code out. */
import {Command, CommanderError} from 'commander';
import {version} from '../package.json';
import {addBench} from './commands/bench';
import {addChat} from './commands/chat';
import {addConvert} from './commands/convert';
import {addDoctor} from './commands/doctor';
import {addEmbed} from './commands/embed';
import {addFinetune} from './commands/finetune';
import {addGenerate} from './commands/generate';
import {addInspect} from './commands/inspect';
import {addPresets} from './commands/presets';
import {report} from './support/errors';
import {EXIT, type Io} from './support/io';

const COMMANDS = [addGenerate, addChat, addEmbed, addFinetune, addInspect, addPresets, addConvert, addDoctor, addBench];

/**
 * Runs one command. Never rejects.
 *
 * @param argv arguments without the interpreter and the script.
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const program = new Command('gemma3')
    .description("Google's Gemma 3 on TensorFlow.js.")
    .version(version)
    .exitOverride()
    .configureOutput({writeOut: text => void io.stdout.write(text), writeErr: text => void io.stderr.write(text)})
    .showHelpAfterError('Add --help to see what there is.');
  for (const add of COMMANDS) add(program, io);
  try {
    await program.parseAsync(argv, {from: 'user'});
    return EXIT.done;
  } catch (error) {
    // Commander says what is wrong before it throws; help and version that were asked for are no error.
    if (error instanceof CommanderError) {
      return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    }
    if (io.signal.aborted) return EXIT.interrupted;
    report(error, io);
    return EXIT.failed;
  }
}

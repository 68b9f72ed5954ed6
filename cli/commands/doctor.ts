/** `gemma3 doctor`: shows which backends work on this machine, and why others do not. */
import {type Command} from 'commander';
import {table} from '../support/format';
import {type Io, printJson} from '../support/io';

export function addDoctor(program: Command, io: Io): void {
  program
    .command('doctor')
    .description('show which backends work on this machine')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExample:\n  $ gemma3 doctor\n')
    .action((options: {json?: boolean}) => doctor(options, io));
}

async function doctor(options: {json?: boolean}, io: Io): Promise<void> {
  const {describeBackends, useBackend} = await import('tfjs-gemma3');
  // Which GPU features it uses is decided when it starts.
  const failure = await useBackend('webgpu').then(
    () => undefined,
    (error: Error) => error.message,
  );
  const backends = (await describeBackends()).map(backend =>
    backend.name === 'webgpu' && backend.available && failure
      ? {...backend, details: `${backend.details}. Not started: ${failure}`}
      : backend,
  );
  if (options.json) {
    printJson(io, {node: process.version, platform: `${process.platform}-${process.arch}`, backends});
    return;
  }
  const rows = backends.map(({name, available, details}) => [name, available ? 'available' : 'unavailable', details]);
  io.stdout.write(table([['BACKEND', 'STATUS', 'DETAILS'], ...rows]));
}

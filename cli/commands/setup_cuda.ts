/** `gemma3 setup-cuda`: sets up TensorFlow for the backend cuda. */
import {type Command} from 'commander';
import {type Io} from '../support/io';

interface SetupCudaOptions {
  cpu?: boolean;
  dryRun?: boolean;
  remove?: boolean;
}

const HELP = `
It fetches TensorFlow with pip, and builds tfjs' binding to it, which takes a Python with pip, a C++ compiler and npm, about
8 GB of space, and some minutes. Nothing outside of one folder is changed: GEMMA3_CUDA_FOLDER, or tfjs-gemma3/cuda in the
user's cache. If it is interrupted, run it again: it goes on where it stopped.

Examples:
  $ gemma3 setup-cuda
  $ gemma3 setup-cuda --cpu --dry-run
  $ gemma3 setup-cuda --remove
`;

export function addSetupCuda(program: Command, io: Io): void {
  const command = program
    .command('setup-cuda')
    .description('set up TensorFlow for the backend cuda')
    .option('--cpu', 'the build for CPUs, for tests without a GPU')
    .option('--dry-run', 'only show what would be done, and what is missing')
    .option('--remove', 'remove everything that was set up')
    .addHelpText('after', HELP);
  command.action(async ({cpu, dryRun, remove}: SetupCudaOptions) => {
    if (remove && cpu) command.error("error: '--remove' removes both builds. Leave out '--cpu'.", {exitCode: 2});
    // Loaded for this command only.
    const {removeCuda, setUpCuda} = await import('../../src/backends/cuda/setup');
    const say = (line: string) => void io.stdout.write(`${line}\n`);
    const common = {say, ...(dryRun && {dryRun})};
    if (remove) await removeCuda(common);
    else {
      const terminal = io.stderr === process.stderr && io.stderr.isTTY === true;
      await setUpCuda({...common, variant: cpu ? 'cpu' : 'gpu', signal: io.signal, terminal});
    }
  });
}

/** What the set-up needs on this machine, and how to get what is missing. */
import {existsSync} from 'node:fs';
import {formatBytes} from '../../../base/format_bytes';
import {type Variant, VERSIONS} from '../native/place';
import {type Run} from './programs';

/** Programs that were found. */
export interface Tools {
  python: string;
  compiler: string;
  npm: string;
}

/** Something that is missing, and the command or the step that gets it. */
export interface Missing {
  what: string;
  get: string;
}

export interface Machine {
  platform: string;
  arch: string;
  environment: NodeJS.ProcessEnv;
  run: Run;
  /** Whether there is a file at a path. */
  exists(path: string): boolean;
  /** Bytes that can still be written where a path is or will be. */
  freeBytes(path: string): Promise<number | undefined>;
}

/** Bytes on the disk while it is set up: downloads, and what is unpacked of them. */
export const SPACE: Readonly<Record<Variant, number>> = {cpu: 1.6e9, gpu: 9e9};

async function firstThat(
  candidates: readonly (string | undefined)[],
  works: (name: string) => Promise<boolean>,
): Promise<string | undefined> {
  for (const name of candidates) if (name && (await works(name))) return name;
  return undefined;
}

export const thisMachine = (run: Run, freeBytes: Machine['freeBytes']): Machine => ({
  platform: process.platform,
  arch: process.arch,
  environment: process.env,
  run,
  exists: existsSync,
  freeBytes,
});

const SYSTEM = 'on Debian and Ubuntu: sudo apt install';

/** Looks for everything, so that a user hears of all that is missing at once. */
export async function findTools(
  machine: Machine,
  variant: Variant,
  root: string,
): Promise<{tools: Tools; missing: Missing[]}> {
  const {environment, run, exists} = machine;
  const missing: Missing[] = [];
  if (machine.platform !== 'linux' || machine.arch !== 'x64') {
    missing.push({
      what: `a machine with Linux on x64, for which TensorFlow ${VERSIONS.tensorflow} has builds; this is ${machine.platform} on ${machine.arch}`,
      get: 'On Windows, run it in the Windows Subsystem for Linux: wsl --install',
    });
  }
  const ends = (args: readonly string[]) => async (name: string) => (await run(name, args)).code === 0;
  const python = await firstThat([environment.PYTHON, 'python3', 'python'], ends(['-m', 'pip', '--version']));
  if (!python) {
    missing.push({what: 'Python with pip', get: `${SYSTEM} python3-pip. Or set PYTHON to an interpreter that has it.`});
  }
  const compiler = await firstThat([environment.CXX, 'g++', 'c++', 'clang++'], ends(['--version']));
  if (!compiler) missing.push({what: 'a C++ compiler', get: `${SYSTEM} g++. Or set CXX to a compiler.`});
  const npm = await firstThat(['npm'], ends(['--version']));
  if (!npm) missing.push({what: 'npm', get: 'It comes with Node: https://nodejs.org/en/download'});
  if (variant === 'gpu' && !exists('/proc/driver/nvidia/version') && !exists('/dev/dxg')) {
    missing.push({
      what: 'the driver of an NVIDIA GPU',
      get: `${SYSTEM} nvidia-driver, and restart. Without a GPU, add --cpu, for tests.`,
    });
  }
  const free = await machine.freeBytes(root);
  if (free !== undefined && free < SPACE[variant]) {
    missing.push({
      what: `${formatBytes(SPACE[variant])} on the disk of ${root}, of which ${formatBytes(free)} are free`,
      get: 'Free some, or set GEMMA3_CUDA_FOLDER to a folder on another disk.',
    });
  }
  return {tools: {python: python ?? 'python3', compiler: compiler ?? 'g++', npm: npm ?? 'npm'}, missing};
}

/** Finds a TensorFlow, loads it, and makes it tfjs' current backend. */
import {existsSync, readdirSync, readFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {availableParallelism} from 'node:os';
import {dirname, join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {UnavailableError} from '../backend';
import {whyNoSimd} from '../simd/engine/available';
import {Packer} from '../simd/packing/packer';
import {NAME, prepareBackend} from './create_backend';
import {type Rest} from './device';
import {type Binding, openBinding} from './native/binding';
import {missingLibraries} from './native/libraries';
import {probe} from './native/probe';
import {BINDING, findInstalled, PACKAGE} from './native/place';
import {loadTfjsNode, restoreUtil, type StockBackend} from './native/tfjs_node';

/** A TensorFlow that can be loaded. */
interface Source {
  /** Whether it is the build for GPUs. */
  gpu: boolean;
  /** Folder of tfjs' package, and the file of its binding. */
  folder: string;
  binding: string;
  /** Who set it up, for users. */
  origin: string;
}

/** tfjs' packages, of which a program may have one. */
const PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];

/** A package of tfjs that is installed where the program runs, with a binding that was built or downloaded. */
function findPackage(): Source | undefined {
  const {resolve} = createRequire(join(process.cwd(), 'program.js'));
  for (const name of PACKAGES) {
    let folder: string;
    try {
      folder = dirname(resolve(`${name}/package.json`));
    } catch {
      continue;
    }
    const lib = join(folder, 'lib');
    const versions = existsSync(lib) ? readdirSync(lib).sort((a, b) => b.localeCompare(a, 'en', {numeric: true})) : [];
    const binding = versions.map(version => join(lib, version, BINDING)).find(existsSync);
    if (binding) return {gpu: name.endsWith('-gpu'), folder, binding, origin: `the package "${name}"`};
  }
  return undefined;
}

function findSource(): Source | undefined {
  const installed = findInstalled();
  if (!installed) return findPackage();
  const {folder, variant} = installed;
  const origin = `gemma3 setup-cuda${variant === 'cpu' ? ' --cpu' : ''}`;
  return {gpu: variant === 'gpu', folder: join(folder, PACKAGE), binding: join(folder, BINDING), origin};
}

/** The backend that the program registered, by importing a package of tfjs. */
function registered(): StockBackend | undefined {
  if (!tf.findBackendFactory(NAME)) return undefined;
  const backend = tf.findBackend(NAME) as Partial<StockBackend> | null;
  return backend?.binding && backend.tensorMap ? (backend as StockBackend) : undefined;
}

/** Whether the driver of an NVIDIA GPU is loaded: that of Linux, or of Windows in its Linux. */
const hasDriver = (): boolean => existsSync('/proc/driver/nvidia/version') || existsSync('/dev/dxg');

const NOT_SET_UP =
  'TensorFlow is not set up for it. Run `npx gemma3 setup-cuda` on a machine with an NVIDIA GPU; with `--cpu`, it runs ' +
  'on the CPU, for tests.';

/** The reason why it cannot be used here, as far as that can be seen without loading it. */
export async function whyNoCuda(): Promise<string | undefined> {
  if (registered()) return undefined;
  const source = findSource();
  if (!source) {
    return process.platform === 'linux'
      ? NOT_SET_UP
      : 'TensorFlow has builds for NVIDIA GPUs on Linux only. On Windows, use the Windows Subsystem for Linux.';
  }
  return source.gpu && !hasDriver() ? noGpu(source) : undefined;
}

const noGpu = ({origin}: Source): string =>
  `TensorFlow for GPUs is there, from ${origin}, but no driver of an NVIDIA GPU is loaded. Install one (on Debian and ` +
  'Ubuntu: nvidia-driver), check it with `nvidia-smi`, or use the backend "simd".';

const notLoaded = ({origin}: Source, message: string): string => {
  const library = /(lib[\w.-]+\.so[\w.]*): cannot open/.exec(message)?.[1];
  return (
    `TensorFlow from ${origin} cannot be loaded: ${message}. ` +
    (library ? `The library ${library} is missing. ` : '') +
    (origin.startsWith('gemma3 ')
      ? 'Run `npx gemma3 setup-cuda --remove`, and `npx gemma3 setup-cuda` again.'
      : 'Install it again, or run `npx gemma3 setup-cuda`.')
  );
};

/** Which library TensorFlow misses, and how to get it: it does not say so itself. */
function noAnswer({origin, folder}: Source): string {
  const isOurs = origin.startsWith('gemma3 ');
  const missing = missingLibraries(isOurs ? join(dirname(folder), 'nvidia') : undefined);
  const driver = missing.some(name => name.startsWith('libcuda.so'));
  const others = missing.filter(name => !name.startsWith('libcuda.so'));
  const advice = [
    ...(driver ? ['libcuda.so.1 belongs to the driver: on Debian and Ubuntu, install nvidia-driver.'] : []),
    ...(others.length > 0
      ? [
          isOurs
            ? 'Run `npx gemma3 setup-cuda --remove`, and `npx gemma3 setup-cuda` again: it fetches them.'
            : 'Install the CUDA 12 libraries and cuDNN 9, or run `npx gemma3 setup-cuda`, which has its own.',
        ]
      : []),
    ...(missing.length === 0 ? ['All libraries are there. Check the driver with `nvidia-smi`.'] : []),
  ];
  const why = missing.length > 0 ? ` Missing: ${missing.join(', ')}.` : '';
  return `TensorFlow for GPUs is there, from ${origin}, but no GPU answers.${why} ${advice.join(' ')}`;
}

/** "auto" takes it where it is set up and a driver is loaded; if no GPU answers then, the next backend is taken. */
export function isPreferred(): boolean {
  const own = registered();
  if (own) return own.isUsingGpuDevice;
  return hasDriver() && findSource()?.gpu === true;
}

let loaded: {source: Source; binding: Binding; Backend: ReturnType<typeof loadTfjsNode>} | undefined;

/** Loads the library, once for a process. @throws UnavailableError if it cannot be loaded, or no GPU answers. */
function load(): NonNullable<typeof loaded> {
  if (loaded) return loaded;
  const source = findSource();
  if (!source) throw new UnavailableError(NOT_SET_UP);
  let binding: Binding;
  try {
    binding = openBinding(source.binding);
  } catch (error) {
    throw new UnavailableError(notLoaded(source, (error as Error).message));
  }
  if (source.gpu && !binding.isUsingGpuDevice()) {
    throw new UnavailableError(noAnswer(source));
  }
  loaded = {source, binding, Backend: loadTfjsNode(source.folder)};
  return loaded;
}

let packer: Packer | undefined;

/** What packs int8 weights; undefined without SIMD in WebAssembly, which every Node has unless it is switched off. */
async function packerHere(): Promise<Packer | undefined> {
  if (!packer && whyNoSimd() === undefined) packer = await Packer.start();
  return packer;
}

let running: Promise<void> = Promise.resolve();

/** One call after another. */
export async function useCuda(rest?: Rest): Promise<void> {
  const done = running.then(() => useOnce(rest));
  running = done.catch(() => {});
  await done;
}

async function useOnce(rest?: Rest): Promise<void> {
  let backend = registered();
  if (backend) {
    if (!loaded) restoreUtil();
  } else {
    const {binding, Backend} = load();
    const created = (backend = new Backend(binding, '@tensorflow/tfjs-node-gpu'));
    tf.registerBackend(NAME, () => created, 3);
  }
  prepareBackend(backend, await packerHere(), rest);
  await tf.setBackend(NAME);
}

/** What the driver calls the GPU that TensorFlow uses, which is the last one. */
function gpuName(): string {
  const folder = '/proc/driver/nvidia/gpus';
  const last = existsSync(folder) ? readdirSync(folder).sort().at(-1) : undefined;
  const text = last ? readFileSync(join(folder, last, 'information'), 'utf8') : '';
  return /^Model:\s*(.+)$/m.exec(text)?.[1]?.trim() ?? 'an NVIDIA GPU';
}

/** Another process loads the library: it takes hundreds of megabytes, and memory of the GPU. */
export async function cudaDetails(): Promise<string> {
  const own = registered();
  const source = loaded?.source ?? findSource();
  if (!own && !source) throw new UnavailableError(NOT_SET_UP);
  const origin = own && !loaded ? "the program's own package of tfjs" : source!.origin;
  const answer = own
    ? {gpu: own.isUsingGpuDevice, version: (own.binding as Binding).TF_Version}
    : await probe(source!.binding);
  if ('error' in answer) throw new UnavailableError(notLoaded(source!, answer.error));
  if (!own && source!.gpu && !answer.gpu) throw new UnavailableError(noAnswer(source!));
  const device = answer.gpu
    ? gpuName()
    : `no GPU: the CPU of this machine, ${availableParallelism()} threads, for tests`;
  const rest = own ? '' : ', which is loaded when this backend is chosen';
  return `${device}. TensorFlow ${answer.version}, from ${origin}${rest}`;
}

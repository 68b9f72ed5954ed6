/** Where `gemma3 setup-cuda` keeps TensorFlow and the binding that it builds, and what is there. */
import {readFileSync} from 'node:fs';
import {homedir} from 'node:os';
import {join} from 'node:path';
import {show, ValueError} from '../../../base/errors';

/** Which TensorFlow: its build for NVIDIA GPUs, or that for CPUs. */
export type Variant = 'gpu' | 'cpu';

export const VERSIONS = {
  /** The wheel on PyPI. */
  tensorflow: '2.21.0',
  /** tfjs' package, whose binding is built. */
  tfjsNode: '4.22.0',
  /** Headers of Node's binary interface. */
  headers: '1.9.0',
  /** The version of this interface: what is built against it runs on every Node from 20 on. */
  napi: 8,
} as const;

export const BINDING = 'tfjs_binding.node';
/** The folder of tfjs' package. */
export const PACKAGE = 'tfjs-node';
const RECORD = 'setup.json';

/** What a finished folder says of itself. */
export interface Installed {
  readonly folder: string;
  readonly variant: Variant;
  readonly tensorflow: string;
}

/** The folder of all versions: `GEMMA3_CUDA_FOLDER`, or one in the user's cache. */
export function cudaFolder(environment: NodeJS.ProcessEnv = process.env): string {
  if (environment.GEMMA3_CUDA_FOLDER) return environment.GEMMA3_CUDA_FOLDER;
  return join(environment.XDG_CACHE_HOME || join(homedir(), '.cache'), 'tfjs-gemma3', 'cuda');
}

/** The folder of one version: by what its binary depends on. */
export const folderOf = (variant: Variant, root = cudaFolder()): string =>
  join(root, `tensorflow-${VERSIONS.tensorflow}-${variant}-napi${VERSIONS.napi}-${process.platform}-${process.arch}`);

export const recordOf = (folder: string): string => join(folder, RECORD);

/** What is set up, the build for GPUs first. Undefined if there is nothing. */
export function findInstalled(root = cudaFolder()): Installed | undefined {
  const wanted = process.env.GEMMA3_CUDA_DEVICE;
  if (wanted !== undefined && wanted !== 'gpu' && wanted !== 'cpu') {
    throw new ValueError(`Expected GEMMA3_CUDA_DEVICE to be "gpu" or "cpu", or not set. Received: ${show(wanted)}.`);
  }
  const variants: readonly Variant[] = wanted ? [wanted] : ['gpu', 'cpu'];
  for (const variant of variants) {
    const folder = folderOf(variant, root);
    try {
      const {tensorflow} = JSON.parse(readFileSync(recordOf(folder), 'utf8')) as {tensorflow: string};
      return {folder, variant, tensorflow};
    } catch {
      // Not set up, or not to the end: the record is written last.
    }
  }
  return undefined;
}

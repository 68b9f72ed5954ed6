/**
 * Libraries of NVIDIA that TensorFlow opens when it looks for a GPU. If one is missing it takes the CPU, and does not say
 * which one it was.
 */
import {existsSync, readdirSync} from 'node:fs';
import {constants} from 'node:os';
import {join} from 'node:path';

/** Of TensorFlow's build for CUDA 12. The first one belongs to the driver. */
const LIBRARIES = [
  'libcuda.so.1',
  'libcudart.so.12',
  'libcublas.so.12',
  'libcublasLt.so.12',
  'libcudnn.so.9',
  'libcufft.so.11',
  'libcusparse.so.12',
];

/** Why a library cannot be loaded; undefined if it can. */
function faultOf(file: string): string | undefined {
  try {
    process.dlopen({exports: {}}, file, constants.dlopen.RTLD_NOW);
    return undefined;
  } catch (error) {
    const {message} = error as Error;
    // It was loaded, and is not a module of Node.
    return /did not self-register/.test(message) ? undefined : message.split('\n')[0];
  }
}

/**
 * Those that cannot be loaded, with the reason: by name, or from a folder of a package in `nvidia`.
 *
 * @param nvidia the folder that `gemma3 setup-cuda` has filled, if it did.
 */
export function missingLibraries(nvidia?: string): string[] {
  const own = nvidia && existsSync(nvidia) ? readdirSync(nvidia).map(name => join(nvidia, name, 'lib')) : [];
  return LIBRARIES.flatMap(name => {
    const file = own.map(folder => join(folder, name)).find(existsSync) ?? name;
    const fault = faultOf(file);
    if (fault === undefined) return [];
    // What is missing may be a library that this one needs.
    const needed = /(lib[\w.+-]+\.so[\w.]*): cannot open/.exec(fault)?.[1];
    return [needed === name ? name : `${name} (${fault})`];
  });
}

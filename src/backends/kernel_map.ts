/** Merges the kernel families of a backend into one table. */
import {type KernelFunc} from '@tensorflow/tfjs';

/** tfjs kernels by name. */
export type KernelMap = Readonly<Record<string, KernelFunc>>;

/** @throws Error if two families have a kernel of the same name. */
export function mergeKernels(families: readonly KernelMap[]): KernelMap {
  const merged: Record<string, KernelFunc> = {};
  for (const [name, kernel] of families.flatMap(family => Object.entries(family))) {
    if (merged[name]) throw new Error(`internal: two kernels have the name "${name}".`);
    merged[name] = kernel;
  }
  return merged;
}

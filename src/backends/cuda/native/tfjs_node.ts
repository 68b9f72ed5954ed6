/**
 * Loads the JavaScript of tfjs-node, unchanged, for the copy of tfjs that this package uses: its kernels must be in the
 * same registry as ours. Node alone would give it another copy, next to its own folder.
 */
import {existsSync, readFileSync, statSync} from 'node:fs';
import * as os from 'node:os';
import {dirname, join, resolve} from 'node:path';

import * as util from 'node:util';
import {compileFunction} from 'node:vm';
import * as tf from '@tensorflow/tfjs';
import {type Attribute, type Binding, type GuardedBinding, type Output} from './binding';

/** A tensor's entry in the backend's table. */
export interface Entry {
  shape: number[];
  /** TensorFlow's number of the type. */
  dtype: number;
  /** Values that are not yet a tensor of TensorFlow; null afterwards. */
  values: tf.backend_util.BackendValues | null;
  /** The handle; negative while there is none. */
  id: number;
  refCount: number;
}

export interface StockBackend extends tf.KernelBackend {
  binding: GuardedBinding;
  readonly isUsingGpuDevice: boolean;
  readonly tensorMap: {
    get(dataId: object): Entry;
    set(dataId: object, entry: Entry): void;
    has(dataId: object): boolean;
  };
  createOutputTensor(output: Output): tf.Tensor;
  getInputTensorIds(tensors: readonly tf.TensorInfo[]): number[];
  executeSingleOutput(name: string, attributes: readonly Attribute[], inputs: readonly tf.TensorInfo[]): tf.Tensor;
  disposeData(dataId: object, force?: boolean): boolean;
  incRef(dataId: object): void;
  readSync(dataId: object): tf.backend_util.BackendValues;
}

type Constructor = new (binding: Binding, packageName: string) => StockBackend;

/** Functions of `node:util` that Node 23 removed, and that tfjs-node calls. */
const REMOVED = {
  isNullOrUndefined: (value: unknown): boolean => value === null || value === undefined,
  isArray: Array.isArray,
};

/** For a program that has loaded tfjs-node itself: gives `util` what it lacks from Node 23 on. */
export function restoreUtil(): void {
  // The module that `require` gives, which can be changed.
  const own = (util as unknown as {default?: object}).default ?? util;
  for (const [name, value] of Object.entries(REMOVED)) {
    if (!(name in own)) Object.defineProperty(own, name, {value, configurable: true, writable: true});
  }
}

type Module = {exports: Record<string, unknown>};

/** What the files import besides each other. */
const PROVIDED: Readonly<Record<string, unknown>> = {
  '@tensorflow/tfjs': tf,
  '@tensorflow/tfjs-core': tf,
  os,
  util: {...util, ...REMOVED},
  // Messages for TensorBoard, which need another package.
  './proto/api_pb': {},
};

function fileOf(path: string): string {
  if (existsSync(path) && statSync(path).isFile()) return path;
  return [`${path}.js`, join(path, 'index.js')].find(existsSync) ?? path;
}

/** Runs CommonJS files of one package. */
function loader(): (file: string) => Module['exports'] {
  const loaded = new Map<string, Module>();
  const load = (file: string): Module['exports'] => {
    const known = loaded.get(file);
    if (known) return known.exports;
    const module: Module = {exports: {}};
    loaded.set(file, module);
    const require = (name: string) => {
      if (Object.hasOwn(PROVIDED, name)) return PROVIDED[name];
      if (name.startsWith('.')) return load(fileOf(resolve(dirname(file), name)));
      throw new Error(`internal: "${file}" of tfjs-node needs "${name}".`);
    };
    const parameters = ['exports', 'require', 'module', '__filename', '__dirname'];
    const run = compileFunction(readFileSync(file, 'utf8'), parameters, {filename: file}) as (
      ...values: unknown[]
    ) => void;
    run(module.exports, require, module, file, dirname(file));
    return module.exports;
  };
  return load;
}

/**
 * Registers the kernels of tfjs-node under the name `tensorflow`, and returns the class of its backend.
 *
 * @param folder that of the package.
 */
export function loadTfjsNode(folder: string): Constructor {
  const load = loader();
  const {NodeJSKernelBackend} = load(resolve(folder, 'dist', 'nodejs_kernel_backend.js'));
  load(resolve(folder, 'dist', 'register_all_kernels.js'));
  return NodeJSKernelBackend as Constructor;
}

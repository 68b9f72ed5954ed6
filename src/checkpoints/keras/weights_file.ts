/** Single `.weights.h5` files, as `save_weights` and `load_weights` of Keras write and read them. */
import * as tf from '@tensorflow/tfjs';
import {intoFile} from '../../base/byte_sink';
import {checkArgument} from '../../base/checks';
import {checkKeys, listed, show, ValueError} from '../../base/errors';
import {REQUEST_OPTIONS, type RequestOptions} from '../../files/http_client';
import {fileName, type FileSource, type FileTarget, openFileSource, openFileTarget} from '../../files/open_file';
import {Hdf5File} from '../../formats/hdf5';
import {type Layer} from '../../layers/layer';
import {LoraLayer} from '../../layers/lora';
import {needEnergies} from '../../weights/energies';
import {type WriteOptions} from '../checkpoint';
import {misfit} from '../load_weights';
import {kerasLayers} from '../model_paths';
import {readEnergies} from '../read_energies';
import {savedWeights, storedBytes} from '../saved_weights';
import {Scratch} from '../stored_array';
import {announceVariables, inFileOrder, type LoadOptions, type StoredVariable} from '../stored_weights';
import {variablesIn} from './read_weights';
import {writeHdf5} from './write_weights';

/** Options of `saveWeights`. */
export interface SaveWeightsOptions extends WriteOptions {
  /**
   * Dtype of the weights in the file. Defaults to their current dtype. Required for weights that are stored as int8 or
   * int4.
   */
  dtype?: 'float32' | 'bfloat16';
}

/** Options of `loadWeights`. */
export interface LoadWeightsOptions extends LoadOptions, RequestOptions {
  /**
   * Whether to leave a layer as it is, with a warning, when the file has no variables for it, or a different number or
   * shapes of variables. Layers that only the file has are then ignored as well. Defaults to false.
   */
  skipMismatch?: boolean;
}

const ENDING = '.weights.h5';
const DTYPES = ['float32', 'bfloat16'];

function checkEnding(file: FileTarget | FileSource): void {
  const name = fileName(file);
  if (name === undefined || name.endsWith(ENDING)) return;
  const advice = name.endsWith('.weights.json')
    ? ' Weights in several files belong to a preset: see `fromPreset`.'
    : '';
  throw new ValueError(`The filename must end in \`${ENDING}\`. Received: filepath=${name}.${advice}`);
}

/**
 * Writes the weights of a model to one file. An existing file is replaced when the new one is complete.
 *
 * @param skip a model inside it whose weights are left out.
 * @throws ValueError on unknown or unusable options, a wrong ending, or a target that cannot be written; the signal's
 * reason when aborted; errors of the file system. In these cases an existing file is unchanged.
 */
export async function saveWeightsFile(
  owner: string,
  model: tf.LayersModel,
  target: FileTarget,
  options: SaveWeightsOptions,
  skip?: tf.LayersModel,
): Promise<void> {
  checkKeys(owner, options, ['dtype', 'onProgress', 'signal']);
  const {dtype, onProgress, signal} = options;
  if (dtype !== undefined && !DTYPES.includes(dtype)) {
    throw new ValueError(`Expected dtype to be one of ${DTYPES.join(', ')}. Received: ${show(dtype)}.`);
  }
  checkEnding(target);
  signal?.throwIfAborted();
  const weights = savedWeights(model, dtype, undefined, skip);
  const total = weights.variables.reduce((sum, variable) => sum + storedBytes(variable), 0);
  const sink = await openFileTarget(target);
  let saved = 0;
  await intoFile(sink, async () => {
    const onWrite = (bytes: number) => onProgress?.({file: sink.name, saved: (saved += bytes), total});
    await writeHdf5(sink, weights, onWrite, signal);
    signal?.throwIfAborted();
  });
}

/**
 * Variables are in groups "vars". Keras ignores other datasets, and the state of a compiled model's optimizer, which is
 * next to the layers.
 */
const isVariable = (path: string) => /(^|\/)vars\/\d+$/.test(path) && !path.startsWith('optimizer/');

/** One layer with the variables that it takes from a file. */
interface Match {
  layer: Layer;
  variables: StoredVariable[];
}

/**
 * Assigns the variables of a file to layers.
 *
 * @returns the layers that fit, and what does not fit.
 */
function matchLayers(
  layers: Iterable<[string, Layer]>,
  stored: ReadonlyMap<string, StoredVariable>,
): {matches: Match[]; problems: string[]} {
  const matches: Match[] = [];
  const problems: string[] = [];
  const known = new Set<string>();
  const byGroup = new Map<string, number>();
  for (const path of stored.keys()) {
    const group = path.slice(0, path.lastIndexOf('/'));
    byGroup.set(group, (byGroup.get(group) ?? 0) + 1);
  }
  for (const [path, layer] of layers) {
    const weights = layer.savedWeights;
    const group = `${path}vars`;
    known.add(group);
    const count = byGroup.get(group) ?? 0;
    if (count !== weights.length) {
      problems.push(`layer "${layer.path}" expected ${weights.length} variables at "${group}", received ${count}`);
      continue;
    }
    const found = weights.map((weight, i) => {
      const variable = stored.get(`${group}/${i}`);
      return variable?.fitted?.(weight) ?? variable;
    });
    const wrong = weights.flatMap((weight, i) => {
      const variable = found[i];
      const problem = variable ? misfit(weight, variable) : 'is missing';
      return problem ? [`variable "${weight.originalName}" of layer "${layer.path}", "${group}/${i}", ${problem}`] : [];
    });
    problems.push(...wrong);
    if (wrong.length === 0 && weights.length > 0) matches.push({layer, variables: found as StoredVariable[]});
  }
  for (const [group, count] of byGroup) {
    if (!known.has(group)) problems.push(`"${group}" has ${count} variables of a layer that the model does not have`);
  }
  return {matches, problems};
}

/** What to do about a file that does not fit: the weights of a task and of its backbone have different paths. */
function adviceFor(model: tf.LayersModel, stored: ReadonlyMap<string, StoredVariable>): string {
  const nested = /^layers\/\w+_backbone\/layers\//;
  const ofTask = [...stored.keys()].some(path => nested.test(path));
  const isTask = [...kerasLayers(model, 'created')].some(([path]) => nested.test(path));
  if (ofTask && !isTask) return 'The file has the weights of a task: load it with `loadWeights` of the task.';
  if (!ofTask && isTask) return 'The file may have the weights of a backbone: try `backbone.loadWeights`.';
  return (
    'Check that the file was saved from a model of this configuration, or pass {skipMismatch: true} to load the layers ' +
    'that fit.'
  );
}

/**
 * Reads a file into the weights of a model. Nothing changes unless all layers fit, or `skipMismatch` allows otherwise.
 *
 * @param skip a model inside it whose weights are left out.
 * @throws ValueError on unknown or unusable options, a wrong ending, and layers that do not fit, naming them, their
 * variables and both shapes; Error for a damaged file; the signal's reason when aborted. If reading fails halfway, some
 * weights have the values of the file.
 */
export async function loadWeightsFile(
  owner: string,
  model: tf.LayersModel,
  source: FileSource,
  options: LoadWeightsOptions,
  skip?: tf.LayersModel,
): Promise<void> {
  checkKeys(owner, options, ['skipMismatch', 'onProgress', 'signal', ...REQUEST_OPTIONS]);
  const {skipMismatch = false, onProgress, signal, headers, fetch} = options;
  checkArgument(owner, 'skipMismatch', skipMismatch, 'flag');
  checkEnding(source);
  signal?.throwIfAborted();
  const file = await Hdf5File.open(await openFileSource(source, {headers, fetch, signal}));
  try {
    const stored = variablesIn([{name: file.name, hdf5: file}], new Scratch(), isVariable);
    const {matches, problems} = matchLayers(kerasLayers(model, 'created', '', skip), stored);
    if (problems.length > 0) {
      const report = `The weights of "${file.name}" do not fit model "${model.name}": ${listed(problems)}.`;
      if (!skipMismatch) throw new ValueError(`${report} ${adviceFor(model, stored)}`);
      console.warn(`${report} These layers were skipped, and ${matches.length} layers were loaded.`);
    }
    const total = matches.flatMap(match => match.variables).reduce((sum, {byteLength}) => sum + byteLength, 0);
    let loaded = 0;
    const onRead = (bytes: number) => {
      loaded += bytes;
      onProgress?.({file: file.name, loaded, total});
      signal?.throwIfAborted();
    };
    const reads = inFileOrder(
      matches.flatMap(({layer, variables}) =>
        layer.savedWeights.map((weight, i) => ({layer, weight, variable: variables[i]!})),
      ),
    );
    if (needEnergies(reads.map(({weight}) => weight))) {
      const variableOf = new Map(reads.map(({weight, variable}) => [weight, variable]));
      await readEnergies(model, reads, weight => variableOf.get(weight)!.stream());
    }
    announceVariables(reads.map(({variable}) => variable));
    for (const {layer, weight, variable} of reads) {
      signal?.throwIfAborted();
      await weight.fill(variable.stream(onRead));
      clearLora(layer);
    }
  } finally {
    await file.close();
  }
}

/** Files hold merged kernels. With B = 0 a layer computes what the file says, and A can be trained again. */
function clearLora(layer: Layer): void {
  const b = layer instanceof LoraLayer ? layer.loraMatrices?.b : undefined;
  if (b) tf.tidy(() => void b.write(tf.zeros(b.shape)));
}

/** The weights of a Keras preset: one HDF5 file, or shards with an index. */
import {type ByteSource, type PresetSource} from '../../base/byte_source';
import {show, ValueError} from '../../base/errors';
import {isObject, readJson} from '../../base/json';
import {isSafePath} from '../../base/safe_path';
import {type Hdf5Dataset, Hdf5File} from '../../formats/hdf5';
import {Scratch, StoredArrayStream} from '../stored_array';
import {type StoredVariable, type StoredWeights} from '../stored_weights';
import {isPacked, quantizedVariable, refusedVariable, sortGroup} from './quantized_kernels';
import {SHARDS_FILE, WEIGHTS_FILE} from './weight_files';

/** Names of the weight files of a preset. */
async function weightFiles(source: PresetSource): Promise<string[]> {
  if (await source.has(WEIGHTS_FILE)) return [WEIGHTS_FILE];
  if (!(await source.has(SHARDS_FILE))) {
    throw new ValueError(
      `Expected "${WEIGHTS_FILE}" or "${SHARDS_FILE}" in preset "${source.name}". Received neither. ` +
        'Fetch the preset again, or load it with loadWeights: false.',
    );
  }
  const index = await readJson(source, SHARDS_FILE);
  const map = isObject(index) ? index.weight_map : undefined;
  const files = isObject(map) ? [...new Set(Object.values(map).flat())] : [];
  // Only files of the preset itself: the names come from a file.
  const wrong = files.find(file => typeof file !== 'string' || !isSafePath(file) || !file.endsWith('.h5'));
  if (files.length === 0 || wrong !== undefined) {
    throw new ValueError(
      `Expected a weight_map from layers to names of .h5 files of the preset in "${SHARDS_FILE}" of "${source.name}". ` +
        `Received: ${show(wrong ?? map)}. Fetch the preset again.`,
    );
  }
  return (files as string[]).sort();
}

/**
 * Keras keeps the variables of a model in groups "vars" below "layers", and ignores everything else, such as the state
 * of the optimizer of a compiled model.
 */
const isVariable = (path: string) => /^layers\/(.*\/)?vars\/\d+$/.test(path);

/** The random state of dropout layers: Keras saves it, but it is not a weight of the model. */
const isRandomState = (path: string) => /(^|\/)seed_generator(_\d+)?\/vars\/\d+$/.test(path);

/** An open file, under its name in errors and progress. */
interface OpenFile {
  readonly name: string;
  readonly hdf5: Hdf5File;
}

/** A dataset of a group `vars`, and the file that it is in: large models divide a group among files. */
interface Member {
  readonly file: string;
  readonly dataset: Hdf5Dataset;
}

/**
 * The variables of weight files by path. Other datasets, which Keras ignores, need not be readable. A kernel that Keras
 * quantized is one variable together with its scales.
 *
 * @param isVariable whether a path is that of a variable.
 * @throws ValueError if a variable is stored twice.
 */
export function variablesIn(
  files: readonly OpenFile[],
  scratch: Scratch,
  isVariable: (path: string) => boolean,
): Map<string, StoredVariable> {
  const sorted = [...groupsIn(files, isVariable)].map(([group, members]) => {
    return {group, members, found: sortGroup(members.map(({dataset}) => dataset))};
  });
  // If a file does not tell whether there are two integers per byte, other kernels do: usually all are the same.
  const packed = sorted.some(({found}) => found?.quantized && isPacked(found.quantized));
  const variables = new Map<string, StoredVariable>();
  for (const {group, members, found} of sorted) {
    const fileOf = (dataset: Hdf5Dataset) => members.find(member => member.dataset === dataset)!.file;
    const plain = found ? [] : members.map(({dataset}) => dataset);
    for (const dataset of plain) variables.set(dataset.path, storedVariable(dataset, fileOf(dataset), scratch));
    const {quantized, refused, bias} = found ?? {};
    if (quantized) {
      const file = fileOf(quantized.kernel);
      variables.set(`${group}/0`, quantizedVariable(quantized, file, isPacked(quantized) ?? packed, scratch));
    } else if (refused) {
      variables.set(`${group}/0`, refusedVariable(refused.kernel, fileOf(refused.kernel), refused.mode));
    }
    if (bias) variables.set(`${group}/1`, storedVariable(bias, fileOf(bias), scratch));
  }
  return variables;
}

/** The datasets of each group `vars`, in the order of their numbers. */
function groupsIn(files: readonly OpenFile[], isVariable: (path: string) => boolean): Map<string, Member[]> {
  const known = new Map<string, string>();
  const groups = new Map<string, Member[]>();
  for (const {hdf5, name: file} of files) {
    for (const path of hdf5.paths()) {
      if (isRandomState(path) || !isVariable(path)) continue;
      const first = known.get(path);
      if (first !== undefined) {
        throw new ValueError(`Variable "${path}" is in "${first}" and again in "${file}": expected it once.`);
      }
      known.set(path, file);
      const group = path.slice(0, path.lastIndexOf('/'));
      const members = groups.get(group) ?? [];
      members.push({file, dataset: hdf5.dataset(path)!});
      groups.set(group, members);
    }
  }
  const numberOf = ({dataset: {path}}: Member) => Number(path.slice(path.lastIndexOf('/') + 1));
  for (const members of groups.values()) members.sort((a, b) => numberOf(a) - numberOf(b));
  return groups;
}

function storedVariable(dataset: Hdf5Dataset, file: string, scratch: Scratch): StoredVariable {
  const {shape, dtype, byteLength, places} = dataset;
  const stream = (onRead?: (bytes: number) => void) => new StoredArrayStream(dataset, scratch, onRead);
  return {shape, dtype, byteLength, file, places, stream};
}

/** The path to the variables of a backbone in a file of the task around it. */
const BACKBONE_OF_TASK = /^layers\/\w+_backbone\/(?=layers\/)/;

/**
 * Opens the weight files of a preset.
 *
 * @throws ValueError if there are none, they hold no variables, or a variable is stored twice.
 */
export async function openKerasWeights(source: PresetSource): Promise<StoredWeights> {
  const layout = (await source.has(WEIGHTS_FILE)) ? 'single' : 'sharded';
  const files = await weightFiles(source);
  return openWeightFiles(
    layout,
    files.map(name => ({name, open: () => source.open(name)})),
  );
}

/**
 * Opens files with the variables of a backbone, or of a task around it.
 *
 * @throws ValueError as {@link openKerasWeights}.
 */
export async function openWeightFiles(
  layout: string,
  files: readonly {name: string; open: () => Promise<ByteSource>}[],
): Promise<StoredWeights> {
  const opened: OpenFile[] = [];
  const close = async () => {
    for (const {hdf5} of opened) await hdf5.close();
  };
  try {
    for (const {name, open} of files) opened.push({name, hdf5: await Hdf5File.open(await open())});
    const variables = variablesIn(opened, new Scratch(), isVariable);
    if (variables.size === 0) {
      throw new ValueError(
        `Expected variables as Keras saves them in "${opened.map(({hdf5}) => hdf5.name).join('", "')}". Received none. ` +
          'Save the weights with save_to_preset of KerasHub.',
      );
    }
    const [first] = variables.keys();
    const [prefix = ''] = BACKBONE_OF_TASK.exec(first!) ?? [];
    return {layout, variables, keyOf: path => prefix + path, close};
  } catch (error) {
    await close();
    throw error;
  }
}

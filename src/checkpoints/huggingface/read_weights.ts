/** The weights of a Hugging Face folder: one safetensors file, or shards with an index. */
import {type ByteSource, type PresetSource} from '../../base/byte_source';
import {listed, show, ValueError} from '../../base/errors';
import {isObject, readJson} from '../../base/json';
import {readSafetensors, type SafeTensor} from '../../formats/safetensors';
import {Scratch, StoredArrayStream} from '../stored_array';
import {type StoredVariable, type StoredWeights} from '../stored_weights';
import {checkTied} from '../tied_values';
import {INDEX_FILE, weightFile, WEIGHTS_FILE} from './file_names';
import {type HuggingFaceNames, type SentenceModule} from './models';

/** Number formats of safetensors under the names that are used here. */
const DTYPES: Record<string, string> = {F64: 'float64', F32: 'float32', F16: 'float16', BF16: 'bfloat16'};

/** Names of the weight files of a folder, and the file of each tensor if an index lists them. */
async function weightFiles(source: PresetSource): Promise<{files: string[]; index: Record<string, string>}> {
  const found = await weightFile(source);
  if (found === WEIGHTS_FILE) return {files: [found], index: {}};
  if (found !== INDEX_FILE) {
    const received = found
      ? `only "${found}", a pickled Python object, which can contain programs and is not read. In Python, load the ` +
        'model with transformers and save it with `save_pretrained(folder, safe_serialization=True)`'
      : 'neither. Fetch the folder again, or load it with loadWeights: false';
    throw new ValueError(`Expected "${WEIGHTS_FILE}" or "${INDEX_FILE}" in "${source.name}". Received: ${received}.`);
  }
  const json = await readJson(source, INDEX_FILE);
  const map = isObject(json) ? json.weight_map : undefined;
  const entries = isObject(map) ? Object.entries(map) : [];
  const invalid = entries.find(([, file]) => typeof file !== 'string' || !/^[\w-][\w.-]*\.safetensors$/.test(file));
  if (entries.length === 0 || invalid) {
    throw new ValueError(
      `Expected a weight_map from tensors to names of .safetensors files of the same folder in "${INDEX_FILE}" of ` +
        `"${source.name}". Received: ${show(invalid?.[1] ?? map)}.`,
    );
  }
  const index = Object.fromEntries(entries) as Record<string, string>;
  return {files: [...new Set(Object.values(index))].sort(), index};
}

/** A tensor, under the name with which variables are listed. */
type Found = [key: string, file: string, tensor: SafeTensor];

/**
 * Opens the weight files of a folder, and those of the dense layers of an embedder.
 *
 * @param names the names of the model's weights here.
 * @throws ValueError if there are none, they are damaged, or do not agree with their index.
 */
export async function openHuggingFaceWeights(
  source: PresetSource,
  names: HuggingFaceNames,
  modules: readonly SentenceModule[],
): Promise<StoredWeights> {
  const opened: ByteSource[] = [];
  const close = async () => {
    for (const file of opened) await file.close();
  };
  const tensorsOf = async (file: string) => {
    const bytes = await source.open(file);
    opened.push(bytes);
    return (await readSafetensors(bytes)).tensors;
  };
  try {
    const {files, index} = await weightFiles(source);
    const found: Found[] = [];
    for (const file of files) for (const [name, tensor] of await tensorsOf(file)) found.push([name, file, tensor]);
    checkIndex(source, index, found);
    for (const {kind, path} of modules) {
      if (kind !== 'Dense') continue;
      const file = `${path}/${WEIGHTS_FILE}`;
      for (const [name, tensor] of await tensorsOf(file)) found.push([`${path}/${name}`, file, tensor]);
    }
    return {...storedWeights(source, names, found), layout: files.length > 1 ? 'sharded' : 'single', close};
  } catch (error) {
    await close();
    throw error;
  }
}

/** @throws ValueError if files and index disagree, or a tensor is stored twice. */
function checkIndex(source: PresetSource, index: Readonly<Record<string, string>>, found: readonly Found[]): void {
  const fileOf = new Map<string, string>();
  const problems: string[] = [];
  for (const [name, file] of found) {
    const first = fileOf.get(name);
    if (first !== undefined) problems.push(`"${name}" is in ${first} and again in ${file}`);
    fileOf.set(name, file);
  }
  for (const [name, file] of Object.entries(index)) {
    const actual = fileOf.get(name);
    if (actual !== file)
      problems.push(`"${name}" is not in ${file}${actual === undefined ? '' : `, but in ${actual}`}`);
  }
  if (problems.length === 0) return;
  throw new ValueError(
    `The weight files of "${source.name}" are not those that "${INDEX_FILE}" describes: ${listed(problems)}. ` +
      'Fetch the folder again.',
  );
}

/** The tensors as variables, apart from unused ones and a head that is stored again. */
function storedWeights(
  source: PresetSource,
  names: HuggingFaceNames,
  found: readonly Found[],
): Omit<StoredWeights, 'layout' | 'close'> {
  const scratch = new Scratch();
  const variables = new Map<string, StoredVariable>();
  const tied = new Map<string, StoredVariable>();
  /** Names in the files, by the names of `tensorOf`. */
  const keys = new Map<string, string>();
  for (const [name, file, tensor] of found) {
    if (names.isUnused(name)) continue;
    const [current] = names.namesOf(name) as [string];
    const variable = storedVariable(tensor, file, scratch);
    if (current === names.tied.tensor) {
      tied.set(name, variable);
      continue;
    }
    const other = keys.get(current);
    if (other !== undefined) {
      throw new ValueError(
        `Expected each tensor once in "${source.name}". Received: "${other}" and "${name}", two names of the same one.`,
      );
    }
    keys.set(current, name);
    variables.set(name, variable);
  }
  return {
    variables,
    keyOf: (_, weight) => {
      const {name} = names.tensorOf(weight);
      return keys.get(name) ?? name;
    },
    arrangementOf: weight => names.tensorOf(weight),
    checkValues: async signal => {
      for (const [name, variable] of tied) {
        const embedding = keys.get(names.tied.equals);
        const other = embedding === undefined ? undefined : variables.get(embedding);
        if (other) await checkTied(source.name, {name, variable}, {name: embedding!, variable: other}, signal);
      }
    },
  };
}

function storedVariable(tensor: SafeTensor, file: string, scratch: Scratch): StoredVariable {
  const {shape, itemSize, byteLength, place, readInto} = tensor;
  const dtype = Object.hasOwn(DTYPES, tensor.dtype) ? DTYPES[tensor.dtype]! : tensor.dtype;
  const array = {shape, dtype, itemSize, byteLength, readInto};
  const stream = (onRead?: (bytes: number) => void) => new StoredArrayStream(array, scratch, onRead);
  return {shape, dtype, byteLength, file, places: [place], stream};
}

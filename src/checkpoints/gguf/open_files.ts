/** Finds the files of a model: its file or the parts of it, and the file of its vision encoder. */
import {type ByteSource, type PresetSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {damaged, type GgufFile, type GgufTensor, readGguf} from '../../formats/gguf';
import {candidates, PART} from './file_names';
import {Metadata} from './metadata';

/** Value of `general.architecture` in files of vision encoders. */
export const VISION_ARCHITECTURE = 'clip';

/** A GGUF file, or several that are one. */
export interface OpenGguf {
  readonly name: string;
  readonly gguf: GgufFile;
  /** Names of the files by their sources. */
  readonly names: ReadonlyMap<ByteSource, string>;
}

/**
 * The name of the model's file, and of files next to it that may have its vision encoder.
 *
 * @throws ValueError if a folder has several models.
 */
export async function modelFiles(source: PresetSource): Promise<{model: string; visions: string[]}> {
  const {models, visions} = await candidates(source);
  const model = source.named ?? models[0]!;
  if (source.named === undefined && models.length > 1) {
    throw new ValueError(
      `Expected one GGUF file in "${source.name}". Received: ${models.join(', ')}. Pass the path of one of them.`,
    );
  }
  return {model, visions: visions.filter(file => file !== model)};
}

/**
 * Opens a file and, if it is the first of several parts, the others.
 *
 * @param opened receives each file as it is opened, so that it can be closed.
 * @throws ValueError if a part is missing, or does not belong to the others.
 */
export async function openGguf(source: PresetSource, path: string, opened: ByteSource[]): Promise<OpenGguf> {
  const read = async (name: string) => {
    const file = await source.open(name);
    opened.push(file);
    return {name, file, gguf: await readGguf(file)};
  };
  const first = await read(path);
  const split = new Metadata(path, first.gguf.metadata, 'split.');
  const count = split.has('count') ? split.number('count') : 1;
  if (count <= 1) return {name: path, gguf: first.gguf, names: new Map([[first.file, path]])};
  const found = PART.exec(path);
  if (!found || Number(found[2]) !== count || split.number('no') !== 0) {
    const expected = `the first of ${count} files, whose names end with -00001-of-${String(count).padStart(5, '0')}.gguf`;
    throw new ValueError(
      `Expected ${expected}. Received: "${path}". Pass the path of the first, with its name as it was.`,
    );
  }
  const parts = [first];
  for (let i = 2; i <= count; i++) {
    const name = path.replace(PART, `-${String(i).padStart(5, '0')}-of-${found[2]}.gguf`);
    if (!(await source.has(name))) {
      throw new ValueError(`Expected all ${count} parts of "${path}" next to it. Received a folder without "${name}".`);
    }
    const part = await read(name);
    const place = new Metadata(name, part.gguf.metadata, 'split.');
    if (place.number('count') !== count || place.number('no') !== i - 1) {
      throw damaged(name, `part ${i} of ${count}`, `part ${place.number('no') + 1} of ${place.number('count')}`);
    }
    parts.push(part);
  }
  return {
    name: path,
    gguf: {...first.gguf, tensors: joined(parts, split)},
    names: new Map(parts.map(({file, name}) => [file, name])),
  };
}

function joined(parts: readonly {name: string; gguf: GgufFile}[], split: Metadata): ReadonlyMap<string, GgufTensor> {
  const tensors = new Map<string, GgufTensor>();
  for (const {name, gguf} of parts) {
    for (const [key, tensor] of gguf.tensors) {
      if (tensors.has(key)) throw damaged(name, `each tensor in one part`, `"${key}" again`);
      tensors.set(key, tensor);
    }
  }
  const expected = split.number('tensors.count', tensors.size);
  if (expected !== tensors.size) {
    throw damaged(parts[0]!.name, `${expected} tensors in all parts`, `${tensors.size}`);
  }
  return tensors;
}

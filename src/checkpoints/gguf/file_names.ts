/** Finds GGUF files by their names. */
import {type PresetSource} from '../../base/byte_source';
import {isGgufFile} from '../../base/named_file';

/** Ends the names of files that are parts of one: `-00001-of-00003.gguf`. */
export const PART = /-(\d{5})-of-(\d{5})\.gguf$/i;

/** In the names of files with vision encoders. */
const VISION = /mmproj/i;

/** The names of the model's files in a folder: the first part of each model, and vision encoders. */
export async function candidates(source: PresetSource): Promise<{models: string[]; visions: string[]}> {
  const files = ((await source.list?.()) ?? []).filter(isGgufFile).sort();
  const visions = files.filter(file => VISION.test(file));
  const models = files.filter(file => !VISION.test(file) && Number(PART.exec(file)?.[1] ?? 1) === 1);
  return {models, visions};
}

/** Weights of the same model in another format, with full precision. */
const ORIGINALS = ['model.safetensors', 'model.safetensors.index.json'];

/** Whether a source is a GGUF file, or a folder with one but without the weights from which it was made. */
export async function hasGguf(source: PresetSource): Promise<boolean> {
  if (source.named !== undefined && !isGgufFile(source.named)) return false;
  const name = source.named ?? (await candidates(source)).models[0];
  if (name === undefined || !(await source.has(name))) return false;
  for (const file of source.named === undefined ? ORIGINALS : []) if (await source.has(file)) return false;
  const file = await source.open(name);
  try {
    return source.named !== undefined || (await (await import('../../formats/gguf')).isGguf(file));
  } finally {
    await file.close();
  }
}

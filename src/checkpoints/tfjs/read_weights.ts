/** Weights in the format of tfjs: `model.json` with a manifest, and shards that hold the values one after another. */
import {sizeOf} from '../../base/shapes';
import {ValueError} from '../../base/errors';
import {type ByteSource, type PresetSource, readAll} from '../../base/byte_source';
import {type Hdf5Dataset} from '../../formats/hdf5';
import {type StoredVariable} from '../stored_weights';
import {TFJS_FILE, Concatenated, parseManifest} from './manifest';

/**
 * The weights of a folder of tfjs, by their names. Opens all files.
 *
 * @throws ValueError if `model.json` has no manifest that can be read, or files are shorter than it says.
 */
export async function openTfjsVariables(
  source: PresetSource,
  opened: {close(): Promise<void>}[],
): Promise<Map<string, StoredVariable>> {
  const variables = new Map<string, StoredVariable>();
  for (const {paths, weights} of parseManifest(source.name, await readAll(source, TFJS_FILE))) {
    const files: ByteSource[] = [];
    for (const path of paths) {
      const file = await source.open(path);
      opened.push(file);
      files.push(file);
    }
    const bytes = new Concatenated(files);
    let at = 0;
    for (const {name, shape, packed} of weights) {
      const offset = at;
      // A word of four bytes, whatever it holds.
      at += 4 * sizeOf(shape);
      const logical = packed?.shape ?? shape;
      const halves = packed?.format === 'bfloat16';
      const dataset: Hdf5Dataset = {
        path: name,
        shape: logical,
        dtype: packed ? (halves ? 'bfloat16' : 'int32') : 'float32',
        itemSize: halves ? 2 : 4,
        byteLength: halves ? 2 * sizeOf(logical) : 4 * sizeOf(shape),
        readInto: (start, target) => bytes.readInto(offset + start, target),
      };
      const file = paths.join(', ').replace(/^([^,]*), .*, /, '$1 … ');
      variables.set(name, {
        dataset,
        file,
        ...(packed && !halves && {packed: {format: packed.format, order: packed.order, physicalShape: shape}}),
      });
    }
    if (at !== bytes.size) {
      throw new ValueError(
        `Expected ${at} bytes of weights in ${paths.join(', ')} of "${source.name}". Received: ${bytes.size}. ` +
          'Convert or fetch the preset again.',
      );
    }
  }
  return variables;
}

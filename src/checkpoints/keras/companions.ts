/** The files of a Keras preset apart from `config.json` and weights, for checkpoints that do not have them as files. */
import {type Checkpoint} from '../checkpoint';
import {COMPANION_PARTS, PART_FILES, VOCABULARY} from './preset_files';

/** As `Checkpoint.companions`. */
export async function* companionsOf(checkpoint: Checkpoint): AsyncGenerator<{path: string; bytes: Uint8Array}> {
  for (const part of COMPANION_PARTS) {
    const config = await checkpoint.config(part);
    if (config) yield {path: PART_FILES[part], bytes: new TextEncoder().encode(JSON.stringify(config, null, 4))};
  }
  yield {path: VOCABULARY, bytes: await checkpoint.vocabulary()};
}

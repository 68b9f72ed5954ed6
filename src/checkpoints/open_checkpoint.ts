/** Opens the checkpoint that a name, address or folder refers to, in whichever format it is. */
import {ValueError} from '../base/errors';
import {checkFetched, type FetchOptions, type HttpOptions} from '../files/http_client';
import {openPreset, type PresetLike} from '../hub/open_preset';
import {type OpenPresetOptions} from '../hub/resolver';
import {checkpointFormats} from './all';
import {type Checkpoint, type CheckpointFormat, type OpenOptions} from './checkpoint';

/** A preset, or a checkpoint that is already open. */
export type CheckpointLike = PresetLike | Checkpoint;

const isCheckpoint = (preset: CheckpointLike): preset is Checkpoint =>
  typeof (preset as Partial<Checkpoint> | null)?.weights === 'function';

/**
 * Opens a preset once, to read several things from it: the `fromPreset` of every class accepts the result. Close it
 * afterwards.
 *
 * @param options how to request its files, if it is at an http(s) address or on a hub; `download: false` to read files of
 * a hub by ranges instead of downloading them; and `mmproj`, the file of the vision encoder of a GGUF file.
 * @throws ValueError if there is no such preset, or it is not a GGUF file but `mmproj` is given.
 */
export async function openCheckpoint(
  preset: PresetLike,
  {mmproj, ...http}: OpenPresetOptions & OpenOptions = {},
): Promise<Checkpoint> {
  const source = await openPreset(preset, http);
  const formats: readonly CheckpointFormat[] = checkpointFormats;
  // All look at the same time: each question may be a request to a server.
  const recognized = await Promise.all(formats.map(format => format.recognizes(source)));
  const found = formats.find((_, i) => recognized[i]);
  if (mmproj !== undefined && found?.name !== 'gguf') throw noVisionFile(source);
  if (found) return found.open(source, {mmproj});
  // The folder has no weights. The caller may want only a tokenizer or a configuration, and these are stored as in
  // Keras.
  return formats[0]!.open(source);
}

const noVisionFile = ({name}: {name: string}) =>
  new ValueError(
    `Expected \`mmproj\` only with a GGUF file, which has its vision encoder in another file. Received: "${name}".`,
  );

/**
 * Runs `run` on a checkpoint. Closes the checkpoint afterwards, unless it was already open.
 *
 * @param options how to request its files, if it is at an http(s) address.
 */
export async function withCheckpoint<T>(
  preset: CheckpointLike,
  run: (checkpoint: Checkpoint) => Promise<T>,
  options: HttpOptions = {},
): Promise<T> {
  if (isCheckpoint(preset)) {
    checkFetched(preset, options);
    return run(preset);
  }
  const checkpoint = await openCheckpoint(preset, {...splitFetch(options).http, signal: options.signal});
  try {
    return await run(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

/** Separates how to request files from the other options of a `fromPreset`. */
export function splitFetch<O extends FetchOptions>(
  options: O,
): {http: FetchOptions; rest: Omit<O, keyof FetchOptions>} {
  const {headers, fetch, onDownload, offline, ...rest} = options;
  return {http: defined({headers, fetch, onDownload, offline}), rest};
}

/** Those values that are given. */
const defined = (options: FetchOptions): FetchOptions =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));

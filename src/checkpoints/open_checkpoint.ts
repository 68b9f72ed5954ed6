/** Opens the checkpoint that a name, address or folder refers to, in whichever format it is. */
import {checkFetched, FETCH_OPTIONS, type FetchOptions, type HttpOptions} from '../files/http_client';
import {openPreset, type PresetLike} from '../hub/open_preset';
import {type OpenPresetOptions} from '../hub/resolver';
import {checkpointFormats} from './all';
import {type Checkpoint, type CheckpointFormat, type OpenOptions} from './checkpoint';

/** A preset, or a checkpoint that is already open. */
export type CheckpointLike = PresetLike | Checkpoint;

/** Options of functions that open a model and its vision encoder. */
export interface CheckpointOptions extends FetchOptions, OpenOptions {}

/** The options of {@link CheckpointOptions}. */
export const CHECKPOINT_OPTIONS = [...FETCH_OPTIONS, 'mmproj'] as const;

const requested = new WeakMap<Checkpoint, FetchOptions>();

/** How the files of a checkpoint are requested, for files that belong to it. */
export const requestsOf = (checkpoint: Checkpoint): FetchOptions => requested.get(checkpoint) ?? {};

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
  // All formats are asked at the same time, since each check may be a request to a server.
  const recognized = await Promise.all(formats.map(format => format.recognizes(source)));
  const found = formats.find((_, i) => recognized[i]);
  if (found?.name !== 'gguf') await refuseVisionFile(source.name, {mmproj});
  // Without weights, the caller may want only a tokenizer or a configuration, and these are stored as in Keras.
  const checkpoint = await (found
    ? found.open(source, {mmproj, http, openNamed: openPreset, asked: preset})
    : formats[0]!.open(source));
  requested.set(checkpoint, {headers: http.headers, fetch: http.fetch});
  return checkpoint;
}

/** @throws ValueError on `mmproj` for a preset that is not a GGUF file. */
export async function refuseVisionFile(name: string, {mmproj}: OpenOptions, isOpen = false): Promise<void> {
  if (mmproj !== undefined) throw (await import('./vision_file_errors')).misplaced(name, isOpen);
}

/**
 * Checks options for opening a preset of which only the name is used, since its configuration is part of the package.
 *
 * @throws ValueError on options that say how to request files, or where one of them is.
 */
export async function refuseOpening(name: string, options: CheckpointOptions): Promise<void> {
  checkFetched({name}, options, 'a preset whose files are read');
  await refuseVisionFile(name, options);
}

/**
 * Runs `run` on a checkpoint. Closes the checkpoint afterwards, unless it was already open.
 *
 * @param options how to request its files, if it is at an http(s) address, and where its vision encoder is.
 */
export async function withCheckpoint<T>(
  preset: CheckpointLike,
  run: (checkpoint: Checkpoint) => Promise<T>,
  options: HttpOptions & OpenOptions = {},
): Promise<T> {
  if (isCheckpoint(preset)) {
    checkFetched(preset, options);
    await refuseVisionFile(preset.name, options, true);
    return run(preset);
  }
  const checkpoint = await openCheckpoint(preset, {...splitOpening(options).opening, signal: options.signal});
  try {
    return await run(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

/** Separates how to open a preset from the other options of a `fromPreset`. */
export function splitOpening<O extends CheckpointOptions>(
  options: O,
): {opening: CheckpointOptions; rest: Omit<O, keyof CheckpointOptions>} {
  const {headers, fetch, onDownload, offline, mmproj, ...rest} = options;
  return {opening: defined({headers, fetch, onDownload, offline, mmproj}), rest};
}

/** The values that are given. */
const defined = (options: CheckpointOptions): CheckpointOptions =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));

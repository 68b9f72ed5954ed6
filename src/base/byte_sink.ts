/** Destinations of files: the counterpart of `byte_source.ts`. */

/** One file, written from start to end, so that memory never holds a whole weights file. */
export interface ByteSink {
  /** Its name in error messages: a path. */
  readonly name: string;
  /** Appends bytes. The caller may reuse the array once the promise resolves. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends the file. It becomes part of the preset when the preset is committed. */
  close(): Promise<void>;
}

/** A preset that is being written. Until `commit` readers see the old files, so a failed save changes nothing. */
export interface PresetSink {
  /** Its name in error messages. */
  readonly name: string;
  /** Starts a file, by its path inside the preset (`config.json`, `assets/tokenizer/vocabulary.spm`). */
  create(path: string): Promise<ByteSink>;
  /**
   * Moves all written files into place, replacing files with the same paths, and removes other files that are
   * `obsolete`, such as the shards of a preset that is now one file, and folders that have no files then. If committing
   * a folder on disk fails after the new files have become valid, the error says so.
   */
  commit(obsolete: (path: string) => boolean): Promise<void>;
  /** Discards the written files. The old files stay unchanged. */
  abort(): Promise<void>;
}

/** Writes one small file. */
export async function writeAll(sink: PresetSink, path: string, bytes: Uint8Array): Promise<void> {
  const file = await sink.create(path);
  await file.write(bytes);
  await file.close();
}

/** A file whose contents replace the old ones only when it is closed. */
export interface FileSink extends ByteSink {
  /** Discards what was written. The old file stays unchanged. */
  abort(): Promise<void>;
}

/**
 * Writes files and commits them all, or none if anything fails.
 *
 * @param obsolete see {@link PresetSink.commit}. By default no other file is removed.
 */
export const intoFolder = <T>(
  sink: PresetSink,
  write: () => Promise<T>,
  obsolete: (path: string) => boolean = () => false,
): Promise<T> => orAbort(sink, write, () => sink.commit(obsolete));

/** Writes one file and closes it, or keeps the old file if anything fails. */
export const intoFile = <T>(sink: FileSink, write: () => Promise<T>): Promise<T> =>
  orAbort(sink, write, () => sink.close());

async function orAbort<T>(
  sink: {abort(): Promise<void>},
  write: () => Promise<T>,
  finish: () => Promise<void>,
): Promise<T> {
  try {
    const result = await write();
    await finish();
    return result;
  } catch (error) {
    // Why it failed matters more than why the remains cannot be removed; the cause is often the same.
    await sink.abort().catch(() => {});
    throw error;
  }
}

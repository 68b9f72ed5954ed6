/** Where the files of a preset are written to: the counterpart of `preset_source.ts`. */

/** One file, written from its beginning to its end: a weights file is never held whole. */

export interface ByteSink {
  /** What error messages call it: a path. */
  readonly name: string;
  /** Appends bytes. The array may be used again when the promise is fulfilled. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends the file. It becomes part of the preset when the preset is committed. */
  close(): Promise<void>;
}

/**
 * A preset that is being written. Until `commit` its reader sees what was there before, so that a save that fails leaves
 * the old preset as it is.
 */
export interface PresetSink {
  /** What error messages call it. */
  readonly name: string;
  /** Begins a file, by its path inside the preset (`config.json`, `assets/tokenizer/vocabulary.spm`). */
  create(path: string): Promise<ByteSink>;
  /**
   * Puts all files that were written in place of those of the same paths, and removes others that are `obsolete`: the
   * shards of a preset that is one file now.
   */
  commit(obsolete: (path: string) => boolean): Promise<void>;
  /** Gives up: nothing that was written stays, and nothing that was there is touched. */
  abort(): Promise<void>;
}

/** Writes one small file. */
export async function writeAll(sink: PresetSink, path: string, bytes: Uint8Array): Promise<void> {
  const file = await sink.create(path);
  await file.write(bytes);
  await file.close();
}

/** A file that is written aside and comes into place when it is closed. */
export interface FileSink extends ByteSink {
  /** Gives up: what was there stays. */
  abort(): Promise<void>;
}

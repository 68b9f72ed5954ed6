/** Sources of files: a folder, a set of browser files, a server, memory. */
import {ValueError} from './errors';

/** Bytes `start` to `end - 1` of a file. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/** One file, read by byte ranges, so that memory never holds a whole weights file. */
export interface ByteSource {
  /** Its name in error messages: a path or an address. */
  readonly name: string;
  /** Length in bytes. */
  readonly size: number;
  /**
   * Fills `target` with the bytes from `offset` on.
   *
   * @throws Error if the file ends before `target` is full.
   */
  readInto(offset: number, target: Uint8Array): Promise<void>;
  /**
   * On sources such as servers, the number of bytes that take about as long to read as a few bytes. Readers of small
   * structures fetch that many at a time.
   */
  readonly blockSize?: number;
  /**
   * Announces what will be read next, in this order. A source with slow round trips fetches it ahead, with several
   * requests at a time; others do not have this method. Reads may still differ from what was announced.
   */
  readAhead?(ranges: readonly ByteRange[]): void;
  close(): Promise<void>;
}

/** Where bytes are: a range of one file. */
export interface BytePlace extends ByteRange {
  readonly source: ByteSource;
}

/** Announces to their files that these places will be read, in this order. */
export function announceReads(places: readonly BytePlace[]): void {
  for (let first = 0, end = 0; first < places.length; first = end) {
    const {source} = places[first]!;
    while (places[end]?.source === source) end++;
    source.readAhead?.(places.slice(first, end));
  }
}

/** The files of one preset, by path inside the preset (`config.json`, `assets/tokenizer/vocabulary.spm`). */
export interface PresetSource {
  /** Its name in error messages. */
  readonly name: string;
  has(path: string): Promise<boolean>;
  /** @throws ValueError if there is no such file, naming it and the preset. */
  open(path: string): Promise<ByteSource>;
  /**
   * Opens a file that should exist and have this size, without a check. If this is wrong, reading the file throws.
   * Sources with slow round trips have this method.
   */
  openSized?(path: string, size: number): ByteSource;
  /** The name of the file, if the preset is a single file that the user named instead of its folder. */
  readonly named?: string;
  /** Names of the files in the folder itself, not in folders inside it. Left out, or undefined, where they are unknown. */
  list?(): Promise<string[] | undefined>;
}

/**
 * All bytes of a small file.
 *
 * @param limit the maximum number of bytes.
 * @throws ValueError if it has more.
 */
export async function readAll(source: PresetSource, path: string, limit = Infinity): Promise<Uint8Array> {
  const file = await source.open(path);
  try {
    if (file.size > limit) {
      throw new ValueError(`Expected at most ${limit} bytes in "${file.name}". Received: ${file.size} bytes.`);
    }
    const bytes = new Uint8Array(file.size);
    await file.readInto(0, bytes);
    return bytes;
  } finally {
    await file.close();
  }
}

/** The error for a file that ends before byte `end`, which its contents should reach. */
export const truncated = ({name, size}: {name: string; size: number}, end: number): Error =>
  new Error(`"${name}" is truncated: expected at least ${end} bytes. Received: ${size} bytes. Fetch the file again.`);

/** Bytes in memory: small files, tests, browser uploads that have already been read. */
export class MemorySource implements ByteSource {
  constructor(
    readonly name: string,
    private readonly bytes: Uint8Array,
  ) {}
  get size(): number {
    return this.bytes.length;
  }
  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset < 0 || offset + target.length > this.bytes.length) {
      throw truncated(this, offset + target.length);
    }
    target.set(this.bytes.subarray(offset, offset + target.length));
  }
  async close(): Promise<void> {}
}

/**
 * Files that are being downloaded. Most browsers write a file of the private file system as a whole, when it is closed.
 * So each part of a download is a file, named by its first byte, in a folder `<path>.parts`, and stays there. A
 * finished file is a note that says where they are.
 */
import {withRange} from '../../base/byte_ranges';
import {type ByteRange} from '../../base/byte_source';
import {type HandleWriter, writerOf} from '../../base/handle_writer';
import {Sha} from '../../base/sha';
import {type DigestAlgorithm, type PartialFile, type PartialWriter} from '../contract';
import {fileAt, listAt, removeAt, textAt, writeTextAt} from './private_files';

/** Size of a part in bytes: for each connection, at most this much is lost if the page is closed. */
const PART = 8 * 2 ** 20;

/** Number of bytes read at a time. */
const PIECE = 4 * 2 ** 20;

const IDENTITY = 'identity';
const NOTED = 'noted';

export const PARTS = '.parts';
const NOTE = '.note';

/** Where the parts of a finished file are. */
export interface Note {
  /** The path at which the file was finished. */
  readonly path: string;
  readonly folder: string;
  readonly size: number;
  /** Parts in order, without overlaps: only their bytes up to the start of the next part are used. */
  readonly starts: readonly number[];
}

/** Whether a folder of parts belongs to an unfinished file. */
export const isUnfinished = async (folder: string): Promise<boolean> =>
  (await textAt(`${folder}/${IDENTITY}`)) !== undefined;

export const notePath = (path: string): string => path + NOTE;

/** The path that a note refers to; undefined for other names. */
export const notedName = (name: string): string | undefined =>
  name.endsWith(NOTE) ? name.slice(0, -NOTE.length) : undefined;

export async function noteAt(path: string): Promise<Note | undefined> {
  const text = await textAt(notePath(path));
  try {
    return text === undefined ? undefined : (JSON.parse(text) as Note);
  } catch {
    return undefined;
  }
}

/** The bytes of a finished file. They stay on the disk until they are read. */
export async function blobOf({folder, size, starts}: Pick<Note, 'folder' | 'size' | 'starts'>): Promise<Blob> {
  const parts: Blob[] = [];
  for (const [i, start] of starts.entries()) {
    const file = await (await fileAt(`${folder}/${start}`))?.getFile();
    if (!file)
      throw new Error(`Expected byte ${start} of a file in ${folder}. Received: no such part. Download it again.`);
    parts.push(file.slice(0, (starts[i + 1] ?? size) - start));
  }
  return new Blob(parts);
}

export async function digestOfBlob(
  blob: Blob,
  algorithm: DigestAlgorithm,
  prefix: Uint8Array,
  signal?: AbortSignal,
): Promise<string> {
  if (algorithm === 'md5') throw new Error('Expected SHA-1 or SHA-256, which browsers can check here. Received: MD5.');
  const sha = new Sha(algorithm).update(prefix);
  for (let at = 0; at < blob.size; at += PIECE) {
    signal?.throwIfAborted();
    sha.update(new Uint8Array(await blob.slice(at, at + PIECE).arrayBuffer()));
  }
  return sha.digest();
}

class BrowserPartialFile implements PartialFile {
  stored: readonly ByteRange[] = [];

  constructor(
    private readonly folder: string,
    private readonly identity: string,
    /** Sizes of parts, by their first byte. */
    private readonly parts: Map<number, number>,
    public noted: string | undefined,
  ) {
    for (const [start, size] of parts) this.stored = withRange(this.stored, {start, end: start + size});
  }

  async note(text: string): Promise<void> {
    await writeTextAt(`${this.folder}/${NOTED}`, text);
    this.noted = text;
  }

  writer(offset: number): PartialWriter {
    let start = offset;
    let written = 0;
    let writer: HandleWriter | undefined;
    const close = async () => {
      if (!writer) return;
      await writer.close();
      writer = undefined;
      this.parts.set(start, Math.max(written, this.parts.get(start) ?? 0));
      this.stored = withRange(this.stored, {start, end: start + written});
      start += written;
      written = 0;
    };
    return {
      write: async bytes => {
        writer ??= await writerOf((await fileAt(`${this.folder}/${start}`, true))!);
        try {
          await writer.write(bytes);
        } catch (error) {
          // For example a used-up quota. Closing would cause another error, which would hide this one.
          await writer.abort().catch(() => {});
          writer = undefined;
          throw error;
        }
        written += bytes.length;
        if (written >= PART) await close();
      },
      close,
    };
  }

  async digest(algorithm: DigestAlgorithm, prefix: Uint8Array, signal?: AbortSignal): Promise<string> {
    return digestOfBlob(await this.blob(), algorithm, prefix, signal);
  }

  async head(length: number): Promise<Uint8Array> {
    return new Uint8Array(await (await this.blob()).slice(0, length).arrayBuffer());
  }

  async finish(path: string): Promise<void> {
    const note: Note = {path, folder: this.folder, ...this.layout()};
    for (const name of [IDENTITY, NOTED]) await removeAt(`${this.folder}/${name}`);
    await writeTextAt(notePath(path), JSON.stringify(note));
  }

  async clear(): Promise<void> {
    await removeAt(this.folder);
    await writeTextAt(`${this.folder}/${IDENTITY}`, this.identity);
    this.parts.clear();
    this.stored = [];
    this.noted = undefined;
  }

  async close(): Promise<void> {}

  private blob(): Promise<Blob> {
    return blobOf({folder: this.folder, ...this.layout()});
  }

  /** The parts that make up the file: of overlapping parts, those that reach further. */
  private layout(): {size: number; starts: number[]} {
    const starts: number[] = [];
    let size = 0;
    for (const start of [...this.parts.keys()].sort((a, b) => a - b)) {
      const end = start + this.parts.get(start)!;
      if (end <= size || start > size) continue;
      starts.push(start);
      size = end;
    }
    return {size, starts};
  }
}

export async function openPartial(path: string, identity: string): Promise<PartialFile> {
  const folder = path + PARTS;
  const parts = new Map<number, number>();
  const isSame = (await textAt(`${folder}/${IDENTITY}`)) === identity;
  if (isSame) {
    for (const {name} of await listAt(folder)) {
      const size = /^\d+$/.test(name) ? (await (await fileAt(`${folder}/${name}`))!.getFile()).size : 0;
      if (size > 0) parts.set(Number(name), size);
    }
  }
  const noted = isSame ? await textAt(`${folder}/${NOTED}`) : undefined;
  const file = new BrowserPartialFile(folder, identity, parts, noted);
  if (!isSame) await file.clear();
  return file;
}

/** The folder of parts belongs to the finished file: there are no remains. */
export async function removePartial(): Promise<void> {}

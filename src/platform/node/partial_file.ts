/**
 * Files that are being downloaded. The bytes are in a file of the final size with holes. A journal next to it says which
 * ranges are stored: a line for each piece, appended after its bytes are written, so that a process may be killed at any
 * time. Information from the server about the file is a line as well.
 */
import {createHash} from 'node:crypto';
import {type FileHandle, mkdir, open, readFile, rename, rm} from 'node:fs/promises';
import {dirname} from 'node:path';
import {bytesIn, withRange} from '../../base/byte_ranges';
import {type ByteRange} from '../../base/byte_source';
import {type DigestAlgorithm, type PartialFile, type PartialWriter} from '../contract';
import {unless, writing} from './disk';

const journalOf = (path: string) => `${path}.ranges`;

/** Number of bytes read at a time. */
const PIECE = 4 * 2 ** 20;

/** The digest of `prefix` and an open file. */
export async function digestOfHandle(
  handle: FileHandle,
  algorithm: DigestAlgorithm,
  prefix: Uint8Array,
  signal?: AbortSignal,
): Promise<string> {
  const hash = createHash(algorithm).update(prefix);
  const piece = new Uint8Array(PIECE);
  for (let at = 0; ;) {
    signal?.throwIfAborted();
    const {bytesRead} = await handle.read(piece, 0, PIECE, at);
    if (bytesRead === 0) return hash.digest('hex');
    hash.update(piece.subarray(0, bytesRead));
    at += bytesRead;
  }
}

const NOTE = 'note ';

interface Journal {
  readonly ranges: readonly ByteRange[];
  readonly noted: string | undefined;
}

/** A journal; undefined if it is of another version of the file. A line that was cut off is ignored. */
function parseJournal(text: string, identity: string): Journal | undefined {
  const [first, ...lines] = text.split('\n').slice(0, -1);
  if (first !== identity) return undefined;
  let ranges: ByteRange[] = [];
  let noted: string | undefined;
  for (const line of lines) {
    const [, start, end] = /^(\d+) (\d+)$/.exec(line) ?? [];
    if (start !== undefined) ranges = withRange(ranges, {start: Number(start), end: Number(end)});
    else if (line.startsWith(NOTE)) noted = line.slice(NOTE.length);
  }
  return {ranges, noted};
}

class NodePartialFile implements PartialFile {
  constructor(
    private readonly path: string,
    private readonly identity: string,
    private readonly file: FileHandle,
    private readonly journal: FileHandle,
    public stored: readonly ByteRange[],
    public noted: string | undefined,
  ) {}

  async note(text: string): Promise<void> {
    await writing('file', this.path, () => this.journal.appendFile(`${NOTE}${text}\n`));
    this.noted = text;
  }

  writer(offset: number): PartialWriter {
    let at = offset;
    return {
      write: bytes =>
        writing('file', this.path, async () => {
          for (let done = 0; done < bytes.length;) {
            const {bytesWritten} = await this.file.write(bytes, done, bytes.length - done, at + done);
            done += bytesWritten;
          }
          const range = {start: at, end: at + bytes.length};
          await this.journal.appendFile(`${range.start} ${range.end}\n`);
          this.stored = withRange(this.stored, range);
          at = range.end;
        }),
      close: async () => {},
    };
  }

  digest(algorithm: DigestAlgorithm, prefix: Uint8Array, signal?: AbortSignal): Promise<string> {
    return digestOfHandle(this.file, algorithm, prefix, signal);
  }

  async head(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const {bytesRead} = await this.file.read(bytes, 0, length, 0);
    return bytes.subarray(0, bytesRead);
  }

  async finish(path: string): Promise<void> {
    await writing('file', path, async () => {
      await this.file.sync();
      await this.close();
      await mkdir(dirname(path), {recursive: true});
      await rename(this.path, path);
      await rm(journalOf(this.path), {force: true});
    });
  }

  async clear(): Promise<void> {
    // The journal first: it must never name bytes that are gone.
    await this.journal.truncate(0);
    this.stored = [];
    this.noted = undefined;
    await this.file.truncate(0);
    await this.journal.appendFile(`${this.identity}\n`);
  }

  async close(): Promise<void> {
    await this.file.close().catch(() => {});
    await this.journal.close().catch(() => {});
  }
}

export async function openPartial(path: string, identity: string): Promise<PartialFile> {
  return writing('file', path, async () => {
    await mkdir(dirname(path), {recursive: true});
    const text = await readFile(journalOf(path), 'utf8').catch(unless('ENOENT'));
    const known = text === undefined ? undefined : parseJournal(text, identity);
    const old = known && (await open(path, 'r+').catch(unless('ENOENT')));
    const file = old ?? (await open(path, 'w+'));
    // Bytes beyond the end of the file were lost, for example in a power failure.
    const {size} = await file.stat();
    const {ranges: stored, noted} =
      old && known.ranges.every(({end}) => end <= size) ? known : {ranges: [], noted: undefined};
    const lines = [identity, ...stored.map(({start, end}) => `${start} ${end}`)];
    if (noted !== undefined) lines.push(NOTE + noted);
    await rm(journalOf(path), {force: true});
    if (bytesIn(stored) === 0) await file.truncate(0);
    const journal = await open(journalOf(path), 'a');
    await journal.appendFile(lines.join('\n') + '\n');
    return new NodePartialFile(path, identity, file, journal, stored, noted);
  });
}

export async function removePartial(path: string): Promise<void> {
  for (const left of [path, journalOf(path)]) await rm(left, {force: true});
}

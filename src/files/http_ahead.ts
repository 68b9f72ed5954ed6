/** Fetches announced ranges of files before they are read: a few at a time, and no more than memory should hold. */
import {type ByteRange} from '../base/byte_source';

/** Maximum bytes of a request. With `IN_FLIGHT` it bounds the memory that files of a preset use. */
const CHUNK = 4 * 2 ** 20;

/**
 * Number of chunks that are being fetched or wait to be read. Browsers open six connections to a server with HTTP/1.1.
 */
const IN_FLIGHT = 6;

/** Ranges with a gap of at most this many bytes are fetched together. */
const GAP = 64 * 1024;

/** Fetches bytes of a file. */
export type FetchRange = (start: number, target: Uint8Array, signal: AbortSignal) => Promise<void>;

interface Chunk extends ByteRange {
  readonly owner: object;
  readonly fetch: FetchRange;
  readonly stop: AbortController;
  bytes?: Promise<Uint8Array>;
}

/** Joins neighbouring ranges, and divides the result into chunks. */
export function chunksOf(ranges: readonly ByteRange[]): ByteRange[] {
  const runs: {start: number; end: number}[] = [];
  for (const {start, end} of ranges) {
    const last = runs.at(-1);
    if (end <= start) continue;
    if (last && start >= last.end && start - last.end <= GAP) last.end = end;
    else runs.push({start, end});
  }
  return runs.flatMap(({start, end}) =>
    Array.from({length: Math.ceil((end - start) / CHUNK)}, (_, i) => ({
      start: start + i * CHUNK,
      end: Math.min(end, start + (i + 1) * CHUNK),
    })),
  );
}

/** The announced chunks of all files of a preset, in the order in which they will be read. */
export class ReadAhead {
  private queue: Chunk[] = [];

  /** Announces ranges of a file, in the order of reading. */
  plan(owner: object, ranges: readonly ByteRange[], fetch: FetchRange): void {
    for (const {start, end} of chunksOf(ranges)) {
      this.queue.push({owner, start, end, fetch, stop: new AbortController()});
    }
    this.advance();
  }

  /** Forgets the chunks of a file, and stops their requests. */
  forget(owner: object): void {
    for (const chunk of this.queue) if (chunk.owner === owner) chunk.stop.abort();
    this.queue = this.queue.filter(chunk => chunk.owner !== owner);
    this.advance();
  }

  /**
   * Copies bytes from `offset` on, from one chunk.
   *
   * @returns how many bytes were copied: 0 if none are announced there.
   */
  async take(owner: object, offset: number, target: Uint8Array): Promise<number> {
    const index = this.queue.findIndex(chunk => chunk.owner === owner && chunk.start <= offset && offset < chunk.end);
    const chunk = this.queue[index];
    if (!chunk) return 0;
    // What was announced before this chunk is not read, or not in this order.
    for (const skipped of this.queue.splice(0, index)) skipped.stop.abort();
    this.advance();
    const bytes = await this.start(chunk).catch((error: unknown) => {
      // The next read here makes its own request.
      this.queue = this.queue.filter(other => other !== chunk);
      throw error;
    });
    const part = bytes.subarray(offset - chunk.start, offset - chunk.start + target.length);
    target.set(part);
    if (offset + part.length === chunk.end) {
      this.queue = this.queue.filter(other => other !== chunk);
      this.advance();
    }
    return part.length;
  }

  /** The start of the next announced range of a file after `offset`; Infinity if there is none. */
  next(owner: object, offset: number): number {
    const starts = this.queue.filter(chunk => chunk.owner === owner && chunk.start > offset).map(({start}) => start);
    return Math.min(Infinity, ...starts);
  }

  private start(chunk: Chunk): Promise<Uint8Array> {
    if (!chunk.bytes) {
      const bytes = new Uint8Array(chunk.end - chunk.start);
      chunk.bytes = chunk.fetch(chunk.start, bytes, chunk.stop.signal).then(() => bytes);
      // The reader of the chunk gets its error. There may be no reader yet.
      chunk.bytes.catch(() => {});
    }
    return chunk.bytes;
  }

  private advance(): void {
    for (const chunk of this.queue.slice(0, IN_FLIGHT)) void this.start(chunk);
  }
}

/** A deflated file in an archive, which is inflated while it is read. */
import {type ByteSource, truncated} from '../../base/byte_source';
import {concatBytes} from '../../base/concat_bytes';
import {ValueError} from '../../base/errors';

/** Bytes of the archive that are inflated at a time. */
const PIECE = 256 * 1024;

/** A file of at most this many bytes is kept after it was inflated. */
const KEPT = 64 * 2 ** 20;

interface Read {
  readonly offset: number;
  readonly target: Uint8Array;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Deflated bytes can only be read from the beginning on. So reads wait, and are answered in the order of the file while
 * it is inflated. If a read lies before the current position, inflating restarts from the beginning. Memory holds one
 * piece, or the whole file if it is small.
 */
export class InflatedFile implements ByteSource {
  private readonly waiting: Read[] = [];
  private isRunning = false;
  private pieces: AsyncGenerator<Uint8Array> | undefined;
  /** The piece that was inflated last, and where it begins in the file. */
  private piece = new Uint8Array(0);
  private at = 0;
  private whole: Uint8Array | undefined;

  /**
   * @param packed the deflated bytes.
   * @param size bytes of the file.
   * @param crc its checksum, which is compared when all was inflated.
   */
  constructor(
    private readonly packed: ByteSource,
    readonly size: number,
    private readonly crc: number,
  ) {}

  get name(): string {
    return this.packed.name;
  }

  readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset < 0 || offset + target.length > this.size) {
      return Promise.reject(truncated(this, offset + target.length));
    }
    if (this.whole) {
      target.set(this.whole.subarray(offset, offset + target.length));
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      this.waiting.push({offset, target, resolve, reject});
      if (!this.isRunning) void this.run();
    });
  }

  async close(): Promise<void> {
    await this.restart();
    this.whole = undefined;
    await this.packed.close();
  }

  /** Answers reads until none are waiting. */
  private async run(): Promise<void> {
    this.isRunning = true;
    while (this.waiting.length > 0) {
      // The next read in the file, or else the first one, after a restart.
      const order = (read: Read) => (read.offset < this.at ? read.offset + this.size : read.offset);
      const next = this.waiting.reduce((a, b) => (order(b) < order(a) ? b : a));
      this.waiting.splice(this.waiting.indexOf(next), 1);
      try {
        await this.answer(next);
        next.resolve();
      } catch (error) {
        await this.restart();
        next.reject(error);
      }
    }
    this.isRunning = false;
  }

  private async answer({offset, target}: Read): Promise<void> {
    if (!this.whole && this.size <= KEPT) {
      await this.restart();
      // Grows with the data: the size in the archive may be wrong.
      const parts: Uint8Array[] = [];
      for (let piece = await this.next(); piece; piece = await this.next()) parts.push(piece);
      this.whole = concatBytes(parts);
      await this.restart();
    }
    if (this.whole) return target.set(this.whole.subarray(offset, offset + target.length));
    if (offset < this.at) await this.restart();
    for (let filled = 0; ;) {
      const from = offset + filled - this.at;
      if (from < this.piece.length) {
        const part = this.piece.subarray(from, from + target.length - filled);
        target.set(part, filled);
        filled += part.length;
      }
      if (filled === target.length) break;
      if (!(await this.next())) throw this.damaged(`${this.size} bytes`, `${this.at}`);
    }
    // The checksum is verified only when the end is read.
    if (this.at + this.piece.length === this.size) await this.next();
  }

  /** Inflates the next piece; undefined after the last one. */
  private async next(): Promise<Uint8Array | undefined> {
    this.pieces ??= inflated(this.packed, this.size, this.crc);
    let result: IteratorResult<Uint8Array>;
    try {
      result = await this.pieces.next();
    } catch (error) {
      if (error instanceof ReadError) throw error.cause;
      throw this.damaged('deflated bytes with the right checksum', (error as Error).message);
    }
    const end = this.at + this.piece.length;
    if (result.done) {
      if (end !== this.size) throw this.damaged(`${this.size} bytes`, `${end}`);
      return undefined;
    }
    if (end + result.value.length > this.size) throw this.damaged(`${this.size} bytes`, 'more');
    this.at = end;
    this.piece = result.value as Uint8Array<ArrayBuffer>;
    return this.piece;
  }

  private async restart(): Promise<void> {
    const {pieces} = this;
    this.pieces = undefined;
    this.piece = new Uint8Array(0);
    this.at = 0;
    await pieces?.return(undefined);
  }

  private damaged(expected: string, received: string): ValueError {
    return new ValueError(
      `"${this.name}" is damaged: expected ${expected}. Received: ${received}. Fetch the archive again.`,
    );
  }
}

/** The deflated bytes could not be read. */
class ReadError extends Error {}

/** Ten bytes before the deflated bytes turn them into a gzip file, which every platform inflates and verifies. */
const GZIP_HEAD = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

async function* inflated(packed: ByteSource, size: number, crc: number): AsyncGenerator<Uint8Array> {
  const tail = new DataView(new ArrayBuffer(8));
  tail.setUint32(0, crc, true);
  tail.setUint32(4, size % 2 ** 32, true);
  let at = 0;
  const gzip = new ReadableStream<Uint8Array<ArrayBuffer>>({
    start: controller => controller.enqueue(Uint8Array.from(GZIP_HEAD)),
    pull: async controller => {
      if (at === packed.size) {
        controller.enqueue(new Uint8Array(tail.buffer));
        controller.close();
        return;
      }
      const piece = new Uint8Array(Math.min(PIECE, packed.size - at));
      try {
        await packed.readInto(at, piece);
      } catch (cause) {
        throw new ReadError('', {cause});
      }
      at += piece.length;
      controller.enqueue(piece);
    },
  });
  const reader = gzip.pipeThrough(new DecompressionStream('gzip')).getReader();
  try {
    for (;;) {
      const {done, value} = (await reader.read()) as ReadableStreamReadResult<Uint8Array>;
      if (done) return;
      yield value;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

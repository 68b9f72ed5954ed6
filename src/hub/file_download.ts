/** One file of a download: the bytes that are still missing, and whether the received ones are correct. */
import {missingRanges, withRange} from '../base/byte_ranges';
import {type ByteRange} from '../base/byte_source';
import {LostRequest} from '../files/http_client';
import {type PartialFile} from '../platform/contract';
import {type Checksum, digestFor, type HubModel, type RemoteFile} from './hub';
import {EXPIRED, isPage, judge, statusError, storageChecksum} from './range_response';
import {nameOf, type Requests} from './requests';

/** After this many answers without a range, a server counts as one without ranges. */
const NO_RANGES = 3;

/** A range to request. `whole`: from a server without ranges, from the first byte on. */
export interface Task extends ByteRange {
  readonly whole: boolean;
}

const noteOf = (checksum: Checksum | undefined): string =>
  checksum ? `${checksum.kind} ${checksum.value}` : 'no checksum';

function readNote(text: string | undefined): Checksum | undefined {
  const [, kind, value] = /^(md5|sha256|git) ([0-9a-f]+)$/.exec(text ?? '') ?? [];
  return kind === undefined ? undefined : {kind: kind as Checksum['kind'], value: value!};
}

/** Thrown when the server turns out to have no ranges. */
class NoRanges extends Error {}

/** Progress of a task. */
class Position {
  position: number;
  private last: number;
  private before: number;

  constructor(
    readonly task: Task,
    private readonly size: () => number | undefined,
  ) {
    this.position = this.before = task.start;
    this.last = task.end;
  }
  end(): number {
    return Math.min(this.last, this.size() ?? Infinity);
  }
  isAtEnd(): boolean {
    return this.position >= this.end();
  }
  /** Extends the task to the end of the file. */
  extend(): void {
    this.last = Infinity;
  }
  /** Whether it has advanced further than at any earlier call. */
  progressed(): boolean {
    const further = this.position > this.before;
    this.before = Math.max(this.before, this.position);
    return further;
  }
}

export class FileDownload {
  /** Size in bytes; undefined until the server has told. */
  size: number | undefined;
  private checksum: Checksum | undefined;
  /** Ranges that are not being requested. */
  private waiting: ByteRange[] = [];
  /** Requests in progress. */
  private active = 0;
  /** Whether the server answers with ranges; undefined until it has answered. */
  private ranged: boolean | undefined;
  private withoutRange = 0;
  private damaged = 0;
  /** Whether the server has answered with this file, now or before. Some checksums appear only in its answers. */
  private answered = false;
  done = false;

  /**
   * @param chunk bytes to request at a time.
   * @param stored called with the number of bytes that were stored, negative when they are forgotten.
   */
  constructor(
    readonly file: RemoteFile,
    private readonly model: HubModel,
    private readonly partial: PartialFile,
    private readonly requests: Requests,
    private readonly chunk: number,
    private readonly stored: (bytes: number) => void,
  ) {
    this.restart();
  }

  private restart(): void {
    this.size = this.file.size;
    const {noted} = this.partial;
    this.checksum = this.file.checksum ?? readNote(noted);
    this.answered = noted !== undefined;
    this.plan();
  }

  /** Whether all bytes are stored. */
  private isStored(): boolean {
    return this.size !== undefined && missingRanges(this.partial.stored, this.size).length === 0;
  }

  /**
   * Whether bytes can be compared with a checksum, or there is none. An earlier download may have stored all bytes and
   * stopped before comparing them.
   */
  private canCompare(): boolean {
    return this.checksum !== undefined || this.answered || this.size === 0;
  }

  /** Queues missing ranges in chunks: for a file of unknown size, one chunk; for a stored file, its last byte. */
  private plan(underWay: readonly ByteRange[] = []): void {
    const taken = underWay.reduce<readonly ByteRange[]>(
      (ranges, range) => withRange(ranges, range),
      this.partial.stored,
    );
    const missing = missingRanges(taken, this.size ?? Infinity);
    if (this.size === undefined) {
      const {start, end} = missing[0]!;
      this.waiting = [{start, end: Math.min(end, start + this.chunk)}];
      return;
    }
    if (missing.length === 0 && underWay.length === 0 && !this.canCompare()) {
      this.waiting = [{start: this.size - 1, end: this.size}];
      return;
    }
    this.waiting = missing.flatMap(({start, end}) =>
      Array.from({length: Math.ceil((end - start) / this.chunk)}, (_, i) => ({
        start: start + i * this.chunk,
        end: Math.min(end, start + (i + 1) * this.chunk),
      })),
    );
  }

  /** The next task; undefined if there is none, or if it depends on a request in progress. */
  next(): Task | undefined {
    if (this.done || this.isFull()) return undefined;
    // Only the first answer tells whether there are ranges at all, and sometimes the size.
    if (this.active > 0 && (this.ranged !== true || this.size === undefined)) return undefined;
    if (this.ranged === false) return {start: 0, end: Infinity, whole: true};
    if (this.waiting.length === 0 && this.active === 0) this.plan();
    const range = this.waiting.shift();
    return range && {...range, whole: false};
  }

  /** Whether the file can be finished: all bytes are stored, and none are being written. */
  isFull(): boolean {
    return this.active === 0 && this.isStored() && this.canCompare();
  }

  /** Requests a task until all of it is stored. */
  async run(task: Task, signal: AbortSignal): Promise<void> {
    this.active++;
    const at = new Position(task, () => this.size);
    try {
      await this.requests.retried(
        async () => {
          if (task.whole) at.position = 0;
          if (!at.isAtEnd()) await this.attempt(task.whole, at, signal);
        },
        () => at.progressed(),
        signal,
      );
    } catch (error) {
      if (!(error instanceof NoRanges)) throw error;
      this.ranged = false;
    } finally {
      this.active--;
    }
  }

  /** One request for the rest of a task. */
  private async attempt(whole: boolean, at: Position, signal: AbortSignal): Promise<void> {
    const {file, requests, model} = this;
    const start = at.position;
    const last = Math.min(at.end(), start + this.chunk) - 1;
    const headers = {'Accept-Encoding': 'identity', ...(!whole && {Range: `bytes=${start}-${last}`})};
    const answer = await requests.send(file.url, {credentials: model.headers, headers, signal});
    const {response} = answer;
    const wrong = async (received: string): Promise<never> => {
      await answer.discard();
      const where = nameOf(answer.address);
      throw new LostRequest(
        new Error(`Expected bytes of ${file.path} from ${where}. Received: ${received}. Try again later.`),
      );
    };
    if (response.status === 416 && (await this.learnEnd(response, start))) {
      await answer.discard();
      return;
    }
    if (response.status !== 200 && response.status !== 206 && response.status !== 416) {
      const elsewhere = new URL(answer.address).origin !== new URL(file.url).origin;
      // For a signed address that has expired, the hub provides a new one.
      if (elsewhere && EXPIRED.has(response.status)) await wrong(`HTTP ${response.status}`);
      await answer.discard();
      throw model.refused?.(file, response) ?? statusError(file, answer.address, response);
    }
    const found = judge(response, file, start, this.size);
    if (typeof found === 'string') return wrong(found);
    if (this.isStored()) {
      await this.learn(response, found.size);
      await answer.discard();
      return;
    }
    if (!found.ranged && start > 0) {
      await answer.discard();
      if (this.ranged === undefined && ++this.withoutRange >= NO_RANGES) throw new NoRanges();
      return wrong('all of it instead of a range');
    }
    const isFirst = this.size === undefined;
    await this.learn(response, found.size);
    if (found.ranged) this.ranged = true;
    else if (this.ranged === undefined) {
      // Then this body is the whole file.
      at.extend();
      this.waiting = [];
    }
    if (isFirst && this.size !== undefined && found.ranged) this.plan([at.task]);
    await this.store(answer.pieces(), !found.ranged, at);
  }

  /** Takes from an answer what the hub has not told, and keeps it for later processes. */
  private async learn(response: Response, size: number | undefined): Promise<void> {
    this.answered = true;
    this.checksum ??= storageChecksum(response);
    this.size ??= size;
    const {checksum, file, partial} = this;
    if (file.checksum) return;
    const text = noteOf(checksum);
    if (partial.noted !== text) await partial.note(text);
  }

  /** Learns from HTTP 416 that a file of unknown size ends before byte `start`. Returns whether it does. */
  private async learnEnd(response: Response, start: number): Promise<boolean> {
    const [, total] = /^bytes \*\/(\d+)$/.exec(response.headers.get('content-range') ?? '') ?? [];
    // An empty file has no first byte to request.
    const size = total === undefined && start === 0 ? 0 : Number(total);
    if (size !== start || (this.size !== undefined && this.size !== size)) return false;
    await this.learn(response, size);
    return true;
  }

  /** Stores the pieces of a body from the position on. */
  private async store(pieces: AsyncGenerator<Uint8Array>, skipStored: boolean, at: Position): Promise<void> {
    const start = at.position;
    let writer = this.partial.writer(start);
    let next = start;
    try {
      for await (const piece of pieces) {
        const from = at.position;
        const wanted = {start: from, end: Math.min(at.end(), from + piece.length)};
        // A server without ranges sends bytes again that are already stored.
        const parts = skipStored
          ? missingRanges(this.partial.stored, wanted.end).filter(range => range.end > from)
          : [wanted];
        for (const part of parts) {
          const first = Math.max(part.start, from);
          if (first !== next) {
            await writer.close();
            writer = this.partial.writer(first);
          }
          await writer.write(piece.subarray(first - from, part.end - from));
          next = part.end;
          this.stored(part.end - first);
        }
        at.position = wanted.end;
        if (at.isAtEnd()) return;
      }
    } finally {
      await writer.close();
    }
    // Without a length and a known file size, the end of the body is the end of the file.
    if (this.size === undefined && skipStored) this.size = at.position;
    if (at.isAtEnd()) return;
    throw new LostRequest(
      new Error(
        `Expected bytes ${start}-${at.end() - 1} of ${this.file.path}. Received: ${at.position - start} bytes. Try ` +
          'again.',
      ),
    );
  }

  /**
   * Compares the file with its checksum and puts it in place.
   *
   * @param inTurn runs what changes the cache, one change at a time.
   * @throws Error if the bytes are wrong a second time.
   */
  async finish(signal: AbortSignal, inTurn: (run: () => Promise<void>) => Promise<void>): Promise<void> {
    const problem = await this.problem(signal);
    if (problem === undefined) {
      await this.partial.finish(this.model.shelf.target(this.file));
      await inTurn(() => this.model.shelf.add(this.verified()));
      this.done = true;
      return;
    }
    this.stored(-this.size!);
    await this.partial.clear();
    if (++this.damaged > 1) {
      throw new Error(
        `Expected ${this.file.path} of ${this.model.name} with ${problem}. Something between the hub and this ` +
          'computer changes the file, or its checksum on the hub is wrong. Nothing was kept. Try another connection.',
      );
    }
    this.restart();
  }

  /** The file with what the server has told about it. */
  verified(): RemoteFile {
    return {...this.file, size: this.size, checksum: this.checksum};
  }

  /** The expected and the actual properties of the bytes; undefined if they are correct. */
  private async problem(signal: AbortSignal): Promise<string | undefined> {
    if (this.checksum) {
      const {algorithm, prefix} = digestFor(this.checksum, this.size!);
      const digest = await this.partial.digest(algorithm, prefix, signal);
      if (digest === this.checksum.value) return undefined;
      return `${algorithm} ${this.checksum.value}. Received: ${digest}`;
    }
    const page = isPage(await this.partial.head(512)) && !/\.html?$/i.test(this.file.path);
    return page ? 'its own bytes. Received: a web page' : undefined;
  }

  close(): Promise<void> {
    return this.partial.close();
  }
}

/**
 * A model on a hub whose files are not downloaded but read with range requests: a few kilobytes of each describe the
 * model.
 */
import {type ByteSource, type PresetSource, truncated} from '../base/byte_source';
import {ValueError} from '../base/errors';
import {LostRequest} from '../files/http_client';
import {withoutRanges} from '../files/http_file';
import {type HubModel, type RemoteFile} from './hub';
import {openShelf} from './hub_preset';
import {EXPIRED, judge, statusError} from './range_response';
import {nameOf, type Requests} from './requests';

/** Bytes of the first request for a file; a small file is read completely. */
const HEAD = 64 * 1024;

/** Maximum number of bytes read from a server without ranges. */
const WHOLE_LIMIT = 64 * 2 ** 20;

export class RangedPreset implements PresetSource {
  private readonly prefix: string;
  /** Files are opened once and shared by several readers. */
  private readonly opened = new Map<string, Promise<ByteSource>>();

  /** @param root the folder of the preset in the model. */
  constructor(
    private readonly model: HubModel & {readonly files: readonly RemoteFile[]},
    root: string,
    private readonly requests: Requests,
  ) {
    this.prefix = root && `${root}/`;
  }

  get name(): string {
    return this.model.name;
  }

  async has(path: string): Promise<boolean> {
    return this.find(path) !== undefined;
  }

  async open(path: string): Promise<ByteSource> {
    const file = this.find(path);
    if (!file) throw new ValueError(`Expected file "${path}" in ${this.name}. Received: a model without it.`);
    const known = this.opened.get(path);
    if (known) return known;
    const opening = this.openFile(path, file);
    this.opened.set(path, opening);
    opening.catch(() => this.opened.delete(path));
    return opening;
  }

  async list(): Promise<string[]> {
    const inside = this.model.files
      .filter(({path}) => path.startsWith(this.prefix))
      .map(({path}) => path.slice(this.prefix.length));
    return inside.filter(path => !path.includes('/')).sort();
  }

  private find(path: string): RemoteFile | undefined {
    return this.model.files.find(file => file.path === this.prefix + path);
  }

  private async openFile(path: string, file: RemoteFile): Promise<ByteSource> {
    const {model, requests} = this;
    // Downloaded files are not requested again.
    if (await model.shelf.has(file)) return (await openShelf({...model, root: ''})).open(file.path);
    return RangedFile.open(`${model.name}/${path}`, file, model, requests);
  }
}

/** A file on a hub. */
class RangedFile implements ByteSource {
  readonly blockSize = HEAD;
  size = 0;
  private head = new Uint8Array(0);
  /** The address to which the hub has redirected. Credentials are not sent to that host. */
  private place: string | undefined;

  private constructor(
    readonly name: string,
    private readonly file: RemoteFile,
    private readonly model: HubModel,
    private readonly requests: Requests,
  ) {}

  /** @throws ValueError if the hub refuses the file; Error if the server does not answer. */
  static async open(name: string, file: RemoteFile, model: HubModel, requests: Requests): Promise<RangedFile> {
    const opened = new RangedFile(name, file, model, requests);
    if (file.size === 0) return opened;
    const head = new Uint8Array(Math.min(HEAD, file.size ?? HEAD));
    const {filled, size} = await opened.request(0, head, file.size);
    opened.size = size ?? filled;
    opened.head = head.subarray(0, filled);
    return opened;
  }

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (offset < 0 || offset + target.length > this.size) throw truncated(this, offset + target.length);
    const known = this.head.subarray(offset, offset + target.length);
    target.set(known);
    const rest = target.subarray(known.length);
    if (rest.length > 0) await this.request(offset + known.length, rest, this.size);
  }

  /** There is nothing to free. */
  async close(): Promise<void> {}

  /**
   * Requests a range.
   *
   * @param size that of the file, if it is known. Only then must the range have all bytes.
   * @returns the bytes that came, and the size of the file.
   */
  private request(
    start: number,
    target: Uint8Array,
    size: number | undefined,
  ): Promise<{filled: number; size: number | undefined}> {
    const {requests, file, model} = this;
    return requests.retried(async () => {
      const at = this.place ?? file.url;
      const answer = await requests.send(at, {
        ...(at === file.url && model.headers && {credentials: model.headers}),
        headers: {Range: `bytes=${start}-${start + target.length - 1}`, 'Accept-Encoding': 'identity'},
      });
      const {status} = answer.response;
      const lost = (received: string) =>
        new LostRequest(
          new Error(`Expected bytes ${start} to ${start + target.length - 1} of ${this.name}. Received: ${received}.`),
        );
      if (status !== 200 && status !== 206 && status !== 416) {
        await answer.discard();
        if (this.place !== undefined && EXPIRED.has(status)) {
          this.place = undefined;
          throw lost(`HTTP ${status}`);
        }
        throw model.refused?.(file, answer.response) ?? statusError(file, nameOf(at), answer.response);
      }
      const found = judge(answer.response, file, start, size);
      if (typeof found === 'string') {
        await answer.discard();
        throw lost(found);
      }
      if (found.start === 0 && start + target.length > WHOLE_LIMIT) {
        await answer.discard();
        throw withoutRanges(this.name, status);
      }
      this.place = answer.address === file.url ? undefined : answer.address;
      let filled = 0;
      let skipped = found.start;
      for await (const piece of answer.pieces()) {
        const part = piece.subarray(Math.max(0, start - skipped)).subarray(0, target.length - filled);
        skipped += piece.length;
        if (skipped <= start) continue;
        target.set(part, filled);
        filled += part.length;
        if (filled === target.length) break;
      }
      const whole = found.size ?? size;
      const wanted = whole === undefined ? filled : Math.min(target.length, whole - start);
      if (filled < wanted) throw lost(`${filled} bytes`);
      return {filled, size: whole};
    });
  }
}

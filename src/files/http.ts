/** A preset at an http(s) address. Any static server will do, but large files need range requests. */
import {type ByteSource, MemorySource, type PresetSource} from '../base/byte_source';
import {ValueError} from '../base/errors';

/** @throws Error naming the address if the server does not answer. */
async function request(address: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(address, init);
  } catch (error) {
    const {message, cause} = error as Error & {cause?: {code?: string}};
    const code = cause?.code ? ` (${cause.code})` : '';
    throw new Error(
      `Expected a response from ${address}. Received: ${message}${code}. Check that the server is running and allows ` +
        'requests from this origin.',
      {cause: error},
    );
  }
}

class HttpFile implements ByteSource {
  constructor(
    readonly name: string,
    readonly size: number,
  ) {}

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    if (target.length === 0) return;
    const last = offset + target.length - 1;
    const response = await request(this.name, {headers: {Range: `bytes=${offset}-${last}`}});
    if (response.status !== 206 || !response.body) {
      throw new Error(`Expected bytes ${offset}-${last} of ${this.name}. Received: HTTP ${response.status}.`);
    }
    // Copies into the target piece by piece: `arrayBuffer()` would hold a second copy.
    const reader = response.body.getReader();
    let filled = 0;
    for (;;) {
      const {done, value} = await reader.read();
      if (done) break;
      if (filled + value.length > target.length) {
        throw new Error(`Expected ${target.length} bytes of ${this.name} from ${offset}. Received: more.`);
      }
      target.set(value, filled);
      filled += value.length;
    }
    if (filled !== target.length) {
      throw new Error(
        `Expected ${target.length} bytes of ${this.name} from ${offset}. Received: ${filled}. ` +
          'The connection ended early.',
      );
    }
  }

  async close(): Promise<void> {}
}

/**
 * Files below the address of the preset's folder. Weights are read with range requests. From a server without range
 * requests only small files can be read.
 */
export class HttpPreset implements PresetSource {
  readonly name: string;
  constructor(address: string) {
    this.name = address.endsWith('/') ? address.slice(0, -1) : address;
  }

  async has(path: string): Promise<boolean> {
    const address = `${this.name}/${path}`;
    const head = await request(address, {method: 'HEAD'});
    if (head.status !== 405 && head.status !== 501) return head.ok;
    // Some servers support only GET. For an empty file, which has no first byte, they answer 416.
    const first = await request(address, {headers: {Range: 'bytes=0-0'}});
    await first.body?.cancel();
    return first.ok || first.status === 416;
  }

  async open(path: string): Promise<ByteSource> {
    const address = `${this.name}/${path}`;
    const response = await request(address, {headers: {Range: 'bytes=0-0'}});
    if (!response.ok) {
      await response.body?.cancel();
      throw new ValueError(`Expected a preset at ${this.name} with file "${path}". Received: HTTP ${response.status}.`);
    }
    if (response.status !== 206) return new MemorySource(address, await readWhole(response, address));
    await response.body?.cancel();
    // Servers of other origins often hide Content-Range from browsers, but never Content-Length.
    const size = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1] ?? (await sizeByHead(address));
    if (size === null) {
      throw new Error(
        `Expected the size of ${address} from its server. Received: none. Let it answer HEAD requests, or expose the ` +
          'header Content-Range (Access-Control-Expose-Headers).',
      );
    }
    return new HttpFile(address, Number(size));
  }
}

async function sizeByHead(address: string): Promise<string | null> {
  const response = await request(address, {method: 'HEAD'});
  // An error page has a different length from the file.
  return response.ok ? response.headers.get('content-length') : null;
}

/** Maximum size in bytes of a file that is read from a server without range requests. */
const WHOLE_LIMIT = 64 * 2 ** 20;

/** Reads the whole body of a response from a server without range requests. */
async function readWhole(response: Response, address: string): Promise<Uint8Array> {
  const reader = response.body!.getReader();
  const pieces: Uint8Array[] = [];
  let size = Number(response.headers.get('content-length') ?? 0);
  for (let read = 0; ; size = Math.max(size, read)) {
    if (size > WHOLE_LIMIT) {
      await reader.cancel();
      throw new Error(
        `Expected a server that answers range requests for ${address}. Received: HTTP ${response.status}.`,
      );
    }
    const {done, value} = await reader.read();
    if (done) break;
    pieces.push(value);
    read += value.length;
  }
  return new Uint8Array(await new Blob(pieces as BlobPart[]).arrayBuffer());
}

/** What only Node can do. Its counterpart for browsers is `browser.ts`; the package's `exports` choose. */
import {type FileHandle, open, readFile, stat} from 'node:fs/promises';
import {availableParallelism} from 'node:os';
import {dirname, join, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {setFlagsFromString} from 'node:v8';
import {Worker} from 'node:worker_threads';
import {ValueError} from '../errors';
import {type ByteSource, type PresetSource} from '../hub/preset_source';

export {fileSink, folderSink} from './node_folder_sink';

/** Whether a path can lead to a folder. */
export const canReadFolders = true;

class DiskFile implements ByteSource {
  constructor(
    readonly name: string,
    readonly size: number,
    private readonly handle: FileHandle,
  ) {}

  async readInto(offset: number, target: Uint8Array): Promise<void> {
    for (let filled = 0; filled < target.length;) {
      // Node reads at most 2 GiB at once.
      const wanted = Math.min(target.length - filled, 2 ** 30);
      const {bytesRead} = await this.handle.read(target, filled, wanted, offset + filled);
      if (bytesRead === 0) {
        throw new Error(
          `"${this.name}" is shorter than its contents say: expected at least ${offset + target.length} bytes. ` +
            `Received: ${this.size} bytes. The file is truncated; fetch it again.`,
        );
      }
      filled += bytesRead;
    }
  }

  async close(): Promise<void> {
    await this.handle.close();
  }
}

const isFile = async (path: string) => (await stat(path).catch(() => undefined))?.isFile() ?? false;

class FolderPreset implements PresetSource {
  constructor(readonly name: string) {}

  async has(path: string): Promise<boolean> {
    return isFile(join(this.name, path));
  }

  async open(path: string): Promise<ByteSource> {
    const full = join(this.name, path);
    if (!(await isFile(full))) {
      throw new ValueError(`Expected file "${path}" in preset folder "${this.name}". Received a folder without it.`);
    }
    const handle = await open(full, 'r');
    return new DiskFile(full, (await handle.stat()).size, handle);
  }
}

/** @throws ValueError if there is no such file. */
export async function openFile(path: string): Promise<ByteSource> {
  const full = resolve(path);
  const found = await stat(full).catch(() => undefined);
  if (!found?.isFile()) {
    const why = found ? 'which is a folder' : 'where there is none';
    throw new ValueError(`Expected the path of a file. Received: "${path}", ${why}.`);
  }
  return new DiskFile(full, found.size, await open(full, 'r'));
}

/** The folder at a path, or undefined if there is none. */
export async function openFolder(path: string): Promise<PresetSource | undefined> {
  const full = resolve(path.startsWith('file://') ? fileURLToPath(path) : path);
  const found = await stat(full).catch(() => undefined);
  if (!found) return undefined;
  if (!found.isDirectory()) {
    throw new ValueError(`Expected the path of a preset's folder. Received: "${path}", which is a file.`);
  }
  return new FolderPreset(full);
}

/** A preset that ships with the package, or undefined. `src/platform` and `dist/node` are equally deep. */
export async function packagedPreset(name: string): Promise<PresetSource | undefined> {
  if (!/^\w+$/.test(name)) return undefined;
  const folder = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'presets', name);
  return (await stat(folder).catch(() => undefined))?.isDirectory() ? new FolderPreset(folder) : undefined;
}

/** Lets everything else that waits run once: timers, signals, sockets. */
export const nextTurn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

/** A thread that runs a function of its data. It does not keep the process alive. */
export interface Thread {
  /** Settles when the thread says that it is ready, or ends before. */
  readonly ready: Promise<void>;
  /** Settles when the thread has ended, for whatever reason. */
  readonly ended: Promise<void>;
  /** A message, which waits until the thread receives it. */
  send(message: unknown): void;
  /** Ends the thread, whatever it does. */
  kill(): Promise<void>;
  /** Waits a moment for the thread to end by itself, then ends it. */
  stop(): Promise<void>;
}

/** How long a thread may take to end by itself. */
const GRACE = 1000;

/**
 * Starts a thread on the text of a function `(data, {ready, receive, end}) => void`. The thread lives until it calls `end`,
 * and hears of a message only between calls: `receive(handler)` takes the next one.
 */
export function startThread(source: string, data: unknown): Thread {
  const text =
    `const {parentPort, workerData} = require('node:worker_threads');\n` +
    `(${source})(workerData, {
      ready: () => parentPort.postMessage('ready'),
      receive: handler => void parentPort.once('message', handler),
      end: () => parentPort.close(),
    });`;
  const worker = new Worker(text, {eval: true, workerData: data});
  const ended = new Promise<void>(resolve => worker.once('exit', () => resolve()));
  const ready = new Promise<void>((resolve, reject) => {
    worker.once('message', () => {
      worker.unref();
      resolve();
    });
    worker.on('error', reject); // stays: an error that nobody listens to would end the process
    worker.once('exit', code => reject(new Error(`A thread ended with code ${code} before it was ready.`)));
  });
  const kill = async () => void (await worker.terminate());
  const stop = async () => {
    worker.ref();
    const timer = setTimeout(() => void kill(), GRACE);
    await ended;
    clearTimeout(timer);
  };
  const send = (message: unknown) => worker.postMessage(message);
  return {ready, ended, send, kill, stop};
}

export const coreCount = (): number => availableParallelism();

/** Node 20 has relaxed SIMD behind a flag, which works if it is set before a module is compiled; later ones need none. */
export function enableRelaxedSimd(): void {
  if (process.versions.node.startsWith('20.')) setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/**
 * From Node 24 on V8 can make one instruction of 256 bits of two of 128, on x64 and behind a flag, which counts for
 * functions that are optimized after it is set. Returns whether it may be hoped for.
 */
export function enableWideSimd(): boolean {
  if (process.arch !== 'x64' || Number(process.versions.node.split('.')[0]) < 24) return false;
  setFlagsFromString('--experimental-wasm-revectorize');
  return true;
}

/**
 * The bytes of an image.
 *
 * @throws ValueError unless there is such a file.
 */
export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    const {code, message} = error as NodeJS.ErrnoException;
    const reasons: Record<string, string> = {
      ENOENT: 'there is none',
      EISDIR: 'it is a folder',
      EACCES: 'no permission',
    };
    throw new ValueError(
      `Expected a file of an image at "${path}". Received: ${reasons[code ?? ''] ?? message}. Check the path.`,
    );
  }
}

/** Node draws nothing. */
export function drawnPixels(_image: object): ImageData | undefined {
  return undefined;
}

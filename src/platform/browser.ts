/** What a browser does instead of `node.ts`: there are no folders, and the package's files lie beside its script. */
import {show, ValueError} from '../errors';
import {type FileSink} from '../hub/file_target';
import {HttpPreset} from '../hub/http_source';
import {type PresetSink} from '../hub/preset_sink';
import {type ByteSource, type PresetSource} from '../hub/preset_source';

/** Browsers have no flags that a page could set. */
export const enableWideSimd = (): boolean => false;

/** Browsers have no paths. */
export const canReadFolders = false;

/** See `canReadFolders`. */
export async function openFolder(_path: string): Promise<PresetSource | undefined> {
  return undefined;
}

/** See `node_folder_sink.ts`. */
export async function folderSink(path: string): Promise<PresetSink> {
  throw new ValueError(
    `Expected a FileSystemDirectoryHandle or a PresetSink to save into: browsers have no paths. Received: "${path}".`,
  );
}

/** See `node_folder_sink.ts`. */
export async function fileSink(path: string): Promise<FileSink> {
  throw new ValueError(
    `Expected a FileSystemFileHandle, a MemoryFile or another ByteSink to save into: browsers have no paths. Received: "${path}".`,
  );
}

/** See `node.ts`. */
export async function openFile(path: string): Promise<ByteSource> {
  throw new ValueError(
    `Expected an address that begins with http, bytes, or a file that was chosen: browsers have no paths. Received: "${path}".`,
  );
}

const PACKAGED = ['gemma3_tiny'];

/** A preset that ships with the package, served from where its script was loaded. */
export async function packagedPreset(name: string): Promise<PresetSource | undefined> {
  if (!PACKAGED.includes(name)) return undefined;
  return new HttpPreset(new URL(`../../presets/${name}`, import.meta.url).href);
}

/** Lets everything else that waits run once. Timers would wait 4 ms each, frames 16. */
export const nextTurn = (): Promise<void> =>
  new Promise(resolve => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });

/** See `node.ts`. */
export interface Thread {
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
  send(message: unknown): void;
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a thread on the text of a function `(data, {ready, receive, end}) => void`; see `node.ts`. */
export function startThread(source: string, data: unknown): Thread {
  const text = `const receive = handler => { onmessage = ({data}) => handler(data); };
    receive(data => (${source})(data, {ready: () => postMessage('ready'), receive, end: () => close()}));`;
  const url = URL.createObjectURL(new Blob([text], {type: 'text/javascript'}));
  const worker = new Worker(url);
  let end!: () => void;
  const ended = new Promise<void>(resolve => (end = resolve));
  const ready = new Promise<void>((resolve, reject) => {
    worker.onmessage = () => resolve();
    worker.onerror = event => {
      end();
      reject(new Error(`A thread failed: ${event.message}`));
    };
  }).finally(() => URL.revokeObjectURL(url));
  worker.postMessage(data);
  // Browsers do not say when a worker has ended: there is nothing to wait for.
  const kill = async () => {
    worker.terminate();
    end();
  };
  const send = (message: unknown) => worker.postMessage(message);
  return {ready, ended, send, kill, stop: kill};
}

export const coreCount = (): number => navigator.hardwareConcurrency ?? 1;

/** Browsers have it or have it not. */
export function enableRelaxedSimd(): void {}

/** Browsers have no paths. */
export async function readImageFile(path: string): Promise<Uint8Array> {
  throw new ValueError(
    `Expected an image. Received: the path ${show(path)}, which browsers cannot open. ` +
      'Give a Blob, such as `await (await fetch(address)).blob()`, or an image element.',
  );
}

/** What a page shows: an image element, a canvas or a bitmap. Undefined for anything else. */
export function drawnPixels(image: object): ImageData | undefined {
  // A Worker lacks elements.
  const element = typeof HTMLImageElement !== 'undefined' && image instanceof HTMLImageElement;
  const page = typeof HTMLCanvasElement !== 'undefined' && image instanceof HTMLCanvasElement;
  if (!element && !page && !(image instanceof ImageBitmap) && !(image instanceof OffscreenCanvas)) return undefined;
  const width = element ? image.naturalWidth : image.width;
  const height = element ? image.naturalHeight : image.height;
  if (width === 0 || height === 0) {
    throw new ValueError(
      `Expected an image with pixels. Received: ${width} x ${height}. ` +
        'Wait for `image.decode()` before an image element is used.',
    );
  }
  const context = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true})!;
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

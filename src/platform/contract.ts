/**
 * What Node and browsers each implement. `#platform/<subject>` is `node/<subject>.ts` or `browser/<subject>.ts`; both
 * end with `satisfies` against the interface here, so that they export the same names.
 */
import {type FileSink, type PresetSink} from '../base/byte_sink';
import {type ByteSource, type PresetSource} from '../base/byte_source';

export interface Files {
  /** Whether paths exist on this platform: false in browsers, where the functions that take one refuse it. */
  readonly canReadFolders: boolean;
  /** @throws ValueError if there is no such file. */
  openFile(path: string): Promise<ByteSource>;
  /**
   * The folder at a path or `file:` address, or undefined if there is none.
   *
   * @throws ValueError if it is a file.
   */
  openFolder(path: string): Promise<PresetSource | undefined>;
  /**
   * A file to write; it replaces an old one when it is closed. Missing folders are created.
   *
   * @throws ValueError if there is a folder of that name, or nothing can be written there.
   */
  fileSink(path: string): Promise<FileSink>;
  /**
   * A folder to write a preset into. It and its parents are created if they do not exist.
   *
   * @throws ValueError if there is a file of that name, or nothing can be written there.
   */
  folderSink(path: string): Promise<PresetSink>;
  /** Where a preset of the package is: a path in Node, an address in browsers. Undefined if the package lacks it. */
  packagedPreset(name: string): Promise<string | undefined>;
}

export interface Images {
  /**
   * The bytes of an image file.
   *
   * @throws ValueError if it cannot be read.
   */
  readImageFile(path: string): Promise<Uint8Array>;
  /** The pixels of an image element, a canvas or a bitmap. Undefined for anything else, and in Node. */
  drawnPixels(image: object): ImageData | undefined;
}

/** A thread that runs a function on its data. It does not keep the process alive. */
export interface Thread {
  /** Resolves when the thread reports that it is ready; rejects if it ends first. */
  readonly ready: Promise<void>;
  /** Resolves when the thread has ended, for any reason. */
  readonly ended: Promise<void>;
  /** Sends a message, which waits until the thread receives it. */
  send(message: unknown): void;
  /** Ends the thread at once. */
  kill(): Promise<void>;
  /** Waits a moment for the thread to end on its own, then kills it. */
  stop(): Promise<void>;
}

export interface Threads {
  /**
   * Starts a thread on the source text of a function `(data, {ready, receive, end}) => void`. The thread lives until it
   * calls `end`. `receive(handler)` takes the next message; messages arrive only between calls.
   */
  startThread(source: string, data: unknown): Thread;
  coreCount(): number;
}

/** Instructions of WebAssembly that an engine may support only behind a flag. */
export interface Features {
  /** Enables relaxed SIMD where it needs a flag. Call it before modules are compiled. */
  enableRelaxedSimd(): void;
  /** Lets the engine merge pairs of 128-bit instructions into 256-bit ones. Returns whether it may do so. */
  enableWideSimd(): boolean;
}

export interface Turn {
  /** Lets everything else that is waiting run once: timers, signals, events. */
  nextTurn(): Promise<void>;
}

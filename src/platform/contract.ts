/**
 * Interfaces that Node and browsers each implement. `#platform/<subject>` is `node/<subject>.ts` or
 * `browser/<subject>.ts`; both end with `satisfies` against the interface here, so that they export the same names.
 */
import {type FileSink, type PresetSink} from '../base/byte_sink';
import {type ByteSource, type PresetSource} from '../base/byte_source';

export interface Files {
  /** Whether this platform has file paths. False in browsers, where functions that take a path refuse it. */
  readonly canReadFolders: boolean;
  /** @throws ValueError if there is no such file. */
  openFile(path: string): Promise<ByteSource>;
  /**
   * The folder at a path or `file:` address, or undefined if there is none. Where a save was interrupted after its new
   * files were complete, these are what is read. They are moved into place if the folder can be written.
   *
   * @throws ValueError if it is a file, or the list of files of an interrupted save is damaged.
   */
  openFolder(path: string): Promise<PresetSource | undefined>;
  /**
   * Opens a file for writing. It replaces an old file when it is closed. Missing folders are created. Unfinished files
   * that dead processes left for the same path are removed.
   *
   * @throws ValueError if there is a folder of that name, or nothing can be written there.
   */
  fileSink(path: string): Promise<FileSink>;
  /**
   * Opens a folder to write a preset into. Creates it and its parents if they do not exist. A process that is killed
   * leaves the old files or the new ones, and what it left unfinished is removed here.
   *
   * @throws ValueError if there is a file of that name, or nothing can be written there.
   */
  folderSink(path: string): Promise<PresetSink>;
  /** Location of a preset in the package: a path in Node, an address in browsers. Undefined if the package lacks it. */
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
  /** Sends a message. It is queued until the thread calls `receive`. */
  send(message: unknown): void;
  /** Ends the thread at once. */
  kill(): Promise<void>;
  /** Waits a moment for the thread to end on its own, then kills it. */
  stop(): Promise<void>;
}

export interface Threads {
  /**
   * Starts a thread on the source text of a function `(data, {ready, receive, end}) => void`. The thread lives until it
   * calls `end`. `receive(handler)` passes the next message to the handler. Messages are delivered only while no code
   * of the thread is running.
   */
  startThread(source: string, data: unknown): Thread;
  coreCount(): number;
}

/** WebAssembly instructions that an engine may support only behind a flag. */
export interface Features {
  /** Enables relaxed SIMD where it needs a flag. Must be called before modules are compiled. */
  enableRelaxedSimd(): void;
  /** Lets the engine merge pairs of 128-bit instructions into 256-bit ones. Returns whether it may do so. */
  enableWideSimd(): boolean;
}

export interface Turn {
  /** Lets everything else that is waiting (timers, signals, events) run once. */
  nextTurn(): Promise<void>;
}

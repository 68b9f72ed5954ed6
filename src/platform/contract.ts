/**
 * Interfaces that Node and browsers each implement. `#platform/<subject>` is `node/<subject>.ts` or
 * `browser/<subject>.ts`; both end with `satisfies` against the interface here, so that they export the same names.
 */
import {type FileSink, type PresetSink} from '../base/byte_sink';
import {type ByteRange, type ByteSource, type PresetSource} from '../base/byte_source';

export interface Files {
  /** Whether this platform has file paths. False in browsers, where functions that take a path refuse it. */
  readonly canReadFolders: boolean;
  /** @throws ValueError if there is no such file. */
  openFile(path: string): Promise<ByteSource>;
  /**
   * The folder at a path or `file:` address, or undefined if there is none. If a save was interrupted after its new
   * files were complete, these are read. They are moved into place if the folder can be written.
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
   * leaves either the old files or the new ones; its unfinished files are removed here.
   *
   * @throws ValueError if there is a file of that name, or nothing can be written there.
   */
  folderSink(path: string): Promise<PresetSink>;
  /**
   * The folder of a file and its name there. Browsers have no paths; opening the result there throws.
   *
   * @throws ValueError on an address that is not that of a local file.
   */
  splitPath(path: string): {folder: string; name: string};
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
  /**
   * Decodes a WebP, GIF or AVIF file: in browsers with the browser's own decoder, in Node with the package "sharp", if it
   * is installed. Of an animation, the first picture is used. Values are used as they are stored, without a colour
   * profile.
   *
   * @param turn whether to rotate the image as its metadata says.
   * @throws Error if the file cannot be decoded, or there is no decoder for it. The message says what to do.
   */
  decodeOtherFile(bytes: Uint8Array, file: OtherImage, turn: boolean): Promise<CanvasPixels>;
  /**
   * An image element, a canvas or a bitmap. Undefined for anything else, and in Node.
   *
   * @throws ValueError if it has no pixels.
   */
  drawable(image: object): Drawable | undefined;
}

/** The kind of an image file that is neither PNG nor JPEG. */
export interface OtherImage {
  readonly format: 'WebP' | 'GIF' | 'AVIF';
  /** Its media type, such as "image/webp". */
  readonly type: string;
}

/** Pixels (height, width, 4): red, green, blue, alpha. */
export interface CanvasPixels {
  readonly width: number;
  readonly height: number;
  readonly data: ArrayLike<number>;
}

/** An image source of a page. */
export interface Drawable {
  readonly width: number;
  readonly height: number;
  /** True for image elements, which browsers rotate as the EXIF metadata of their files says. */
  readonly upright: boolean;
  /** @throws ValueError if the page may not read the pixels. */
  pixels(): Promise<ImageData>;
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
   *
   * @throws Error, here or by `ready`, if threads are refused, with what to do.
   */
  startThread(source: string, data: unknown): Thread;
  coreCount(): number;
  /** Bytes of address space that this process may still reserve; Infinity if unlimited or unknown. */
  spaceLeft(): number;
}

/** WebGPU, and the optional packages that it needs. */
export interface Gpu {
  /** `navigator.gpu`, which in Node is created from the package "webgpu". Undefined if there is none. */
  findGpu(): Promise<object | undefined>;
  /** The reason why there is none, and what to do. */
  readonly whyNoGpu: string;
  /** The module `@tensorflow/tfjs-backend-webgpu`; undefined if it is not installed, or not in the page's build. */
  loadTfjsBackend(): Promise<object | undefined>;
  /** Whether programs that do not choose a backend may get this one. */
  readonly chosenByDefault: boolean;
}

/** WebAssembly instructions that an engine may support only behind a flag. */
export interface Features {
  /** Enables relaxed SIMD where it needs a flag. Must be called before modules are compiled. */
  enableRelaxedSimd(): void;
  /** Lets the engine merge pairs of 128-bit instructions into 256-bit ones. Returns whether it may do so. */
  enableWideSimd(): boolean;
}

export interface Inflate {
  /** The bytes of zlib data that is given in base64. */
  inflateBase64(text: string): Promise<ArrayBuffer>;
}

export interface Turn {
  /** Lets everything else that is waiting (timers, signals, events) run once. */
  nextTurn(): Promise<void>;
}

/** How a Worker talks with the page or the thread that started it. */
export interface WorkerPort {
  /** Undefined or null outside a Worker. */
  ownPort():
    | {
        send(message: unknown, transfer: readonly ArrayBuffer[]): void;
        listen(receive: (data: unknown) => void): void;
      }
    | null
    | undefined;
  /**
   * Takes a lock, which is held until the Worker ends, and returns its name. Undefined if that is not needed, or if
   * there are no locks.
   */
  holdLock(): Promise<string | undefined>;
}

/** Digests that hubs use to identify files. */
export type DigestAlgorithm = 'md5' | 'sha1' | 'sha256';

/** A file that is being downloaded. Its stored bytes survive the process. */
export interface PartialFile {
  /** Stored ranges: sorted, without overlaps. */
  readonly stored: readonly ByteRange[];
  /** The text stored by `note`, possibly in an earlier process; undefined if there is none. */
  readonly noted: string | undefined;
  /** Stores a line of text with the bytes: information that only the server's answers contain. */
  note(text: string): Promise<void>;
  /** Starts to store bytes from `offset` on. Several writers may be open at a time. */
  writer(offset: number): PartialWriter;
  /**
   * The digest of `prefix` and the file, in hexadecimal.
   *
   * @throws the reason of `signal` when it is aborted.
   */
  digest(algorithm: DigestAlgorithm, prefix: Uint8Array, signal?: AbortSignal): Promise<string>;
  /** The first bytes, at most `length`. */
  head(length: number): Promise<Uint8Array>;
  /** Turns it into the file at `path`, in one step, and closes it. */
  finish(path: string): Promise<void>;
  /** Discards all bytes, which turned out to be wrong, and the note. */
  clear(): Promise<void>;
  /** Closes it, and keeps the stored bytes for later. */
  close(): Promise<void>;
}

export interface PartialWriter {
  /** Stores bytes. They count as stored when the promise resolves, or with `close` where the platform needs that. */
  write(bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

/** An entry of a folder. */
export interface StoreEntry {
  readonly name: string;
  readonly isFolder: boolean;
}

/** Where downloads are stored: the disk in Node, the origin's private file system in browsers. Paths have slashes. */
export interface Store {
  /** Whether there is such a store. */
  canStore(): boolean;
  /** A variable of the environment; undefined if it is not set or empty. */
  environment(name: string): string | undefined;
  homeFolder(): string;
  /** The text of a small file; undefined if there is none. */
  readText(path: string): Promise<string | undefined>;
  /** Replaces a small file in one step. Creates missing folders, here and below. */
  writeText(path: string, text: string): Promise<void>;
  /** Size in bytes of the file at a path, following links; undefined if there is none. */
  fileSize(path: string): Promise<number | undefined>;
  /** The entries of a folder, with links as their targets; none if there is no such folder. */
  entries(path: string): Promise<StoreEntry[]>;
  /** Makes `path` another name of `file`: a link, or its new location where links are not allowed. */
  link(file: string, path: string): Promise<void>;
  /** Copies a file into a new one. */
  copy(from: string, to: string, signal?: AbortSignal): Promise<void>;
  /** The path that links at `path` point to; undefined if nothing is there. */
  realPath(path: string): Promise<string | undefined>;
  /** Removes a file, or a folder with its contents. */
  remove(path: string): Promise<void>;
  /** Removes unfinished downloads from a folder of `openPartial`. The parts of finished files stay. */
  removePartials(path: string): Promise<void>;
  /** Removes a folder if it is empty, and then its parents, up to `root`, likewise. */
  removeEmpty(path: string, root: string): Promise<void>;
  /** Free bytes at the location of `path`; undefined if unknown. */
  freeBytes(path: string): Promise<number | undefined>;
  /** The digest of `prefix` and a file, in hexadecimal. */
  digestOf(path: string, algorithm: DigestAlgorithm, prefix: Uint8Array, signal?: AbortSignal): Promise<string>;
  /**
   * Opens a file to download, with its bytes that are already stored.
   *
   * @param identity identifies the version of the file. Bytes of another version are discarded.
   */
  openPartial(path: string, identity: string): Promise<PartialFile>;
  /** Removes the remains at `path` of a process that died while it finished a file. */
  removePartial(path: string): Promise<void>;
  /**
   * Waits until no other process holds the lock at `path`, and takes it. The lock of a process that has ended is taken
   * over.
   *
   * @param waiting called once if another process holds it.
   * @returns the lock, to be released.
   */
  lock(path: string, signal: AbortSignal | undefined, waiting: () => void): Promise<Lock>;
  /** A folder of the store as a preset; undefined if there is none. */
  openStored(path: string): Promise<PresetSource | undefined>;
  /**
   * The `fetch` for downloads, such as one for a proxy that the environment names; undefined for the global one.
   *
   * @throws ValueError, which says what to do, if the environment names a proxy that cannot be used here.
   */
  downloadFetch(): Promise<typeof fetch | undefined>;
}

/** A lock that this process holds. */
export interface Lock {
  /** Aborted if another process assumed that this one is dead and has taken over the lock. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
}

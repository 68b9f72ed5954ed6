/** Writes files in browsers, including those without `createWritable`, such as Safari before version 26. */
import {ValueError} from './errors';

/** What is being written. */
export interface HandleWriter {
  write(bytes: Uint8Array): Promise<void>;
  /** Ends writing. A file that is staged has its new contents from now on. */
  close(): Promise<void>;
  /** Stops writing. A staged file stays as it was; a file that is written in place keeps what was written so far. */
  abort(): Promise<void>;
}

/** Browsers have it in Workers, for files of the origin's private file system. TypeScript's DOM library lacks it. */
interface AccessHandle {
  write(bytes: Uint8Array, options: {at: number}): number;
  truncate(size: number): void | Promise<void>;
  flush(): void | Promise<void>;
  close(): void | Promise<void>;
}

type Handle = Omit<FileSystemFileHandle, 'createWritable'> & {
  createWritable?(): Promise<FileSystemWritableFileStream>;
  createSyncAccessHandle?(): Promise<AccessHandle>;
};

/**
 * Starts to write a file from the beginning.
 *
 * @throws ValueError where the browser writes no files.
 */
export async function writerOf(file: FileSystemFileHandle): Promise<HandleWriter> {
  const handle = file as Handle;
  if (handle.createWritable) {
    const stream = await handle.createWritable();
    return {
      write: bytes => stream.write(bytes as Uint8Array<ArrayBuffer>),
      close: () => stream.close(),
      abort: () => stream.abort(),
    };
  }
  if (handle.createSyncAccessHandle) return inPlace(await accessTo(() => handle.createSyncAccessHandle!()));
  throw new ValueError(
    `Expected a browser that writes files here. Received: one without createWritable, which cannot write ` +
      `"${file.name}". Safari before version 26 writes in Workers, and only into the private file system: ` +
      'use "tfjs-gemma3/worker".',
  );
}

/** Milliseconds between tries to open a file, and how many there are. */
const [PAUSE, TRIES] = [20, 100];

/** Waits for another Worker or tab that is writing the same file. */
async function accessTo(open: () => Promise<AccessHandle>): Promise<AccessHandle> {
  for (let tries = 1; ; tries++) {
    try {
      return await open();
    } catch (error) {
      if ((error as {name?: unknown}).name !== 'NoModificationAllowedError' || tries === TRIES) throw error;
      await new Promise(resolve => setTimeout(resolve, PAUSE));
    }
  }
}

async function inPlace(handle: AccessHandle): Promise<HandleWriter> {
  await handle.truncate(0);
  let at = 0;
  const close = async () => {
    await handle.flush();
    await handle.close();
  };
  return {
    write: async bytes => {
      const written = handle.write(bytes, {at});
      at += written;
      if (written < bytes.length) throw new DOMException('The file takes no more bytes.', 'QuotaExceededError');
    },
    close,
    abort: close,
  };
}

/** Downloads files of a model into the cache: several at a time, in ranges, continuing earlier downloads. */
import * as store from '#platform/store';
import {bytesIn} from '../base/byte_ranges';
import {ValueError} from '../base/errors';
import {formatBytes} from '../base/format_bytes';
import {FileDownload} from './file_download';
import {type HubModel, type RemoteFile} from './hub';
import {type Requests} from './requests';

/** Progress of a download. */
export interface DownloadProgress {
  /** The file that the latest bytes belong to. */
  file: string;
  /** Bytes of all files that are on this computer. */
  loaded: number;
  /** Bytes of all files, as far as the hub has told. */
  total: number;
  /** Bytes of this file that are on this computer. */
  fileLoaded: number;
  /** Bytes of this file; undefined until the hub has told. */
  fileTotal: number | undefined;
}

export interface DownloadSettings {
  readonly requests: Requests;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: DownloadProgress) => void) | undefined;
  /** Called when another process downloads the same model, for which this one waits. */
  readonly onWait?: () => void;
  /** Requests at a time. */
  readonly connections?: number;
  /** Bytes of one request. */
  readonly chunk?: number;
}

/** Requests at a time: as many as kagglehub and huggingface_hub make. */
const CONNECTIONS = 8;

/**
 * Bytes of one request: large enough that starting a request does not matter, small enough to divide a file among
 * connections.
 */
const CHUNK = 64 * 2 ** 20;

/** Disk space in bytes that is left free for other programs. */
const RESERVE = 64 * 2 ** 20;

/** A line that distinguishes versions of a file. */
const identityOf = ({path, size, checksum, version}: RemoteFile) => JSON.stringify({path, size, checksum, version});

/**
 * Downloads those of the files that are not in the cache.
 *
 * @param files files of the model.
 * @param isAll whether these are all files of the model.
 * @returns how many bytes were received.
 * @throws ValueError if a file is refused or does not fit on the disk; Error if the connection keeps failing or the
 *   bytes stay wrong. What has arrived is kept, and the next download continues there.
 */
export async function downloadFiles(
  model: HubModel,
  files: readonly RemoteFile[],
  isAll: boolean,
  settings: DownloadSettings,
): Promise<number> {
  const {shelf} = model;
  const lock = await store.lock(shelf.lock, settings.signal, () => settings.onWait?.());
  try {
    const missing: RemoteFile[] = [];
    for (const file of files) if (!(await shelf.has(file))) missing.push(file);
    if (missing.length > 0) await shelf.begin?.();
    const received = await fetchAll(model, files, missing, lock.lost, settings);
    if (missing.length > 0 || isAll) await shelf.finish(files, isAll);
    return received;
  } finally {
    await lock.release();
  }
}

async function fetchAll(
  model: HubModel,
  files: readonly RemoteFile[],
  missing: readonly RemoteFile[],
  lost: AbortSignal,
  {requests, signal, onProgress, connections = CONNECTIONS, chunk = CHUNK}: DownloadSettings,
): Promise<number> {
  if (missing.length === 0) return 0;
  const jobs: FileDownload[] = [];
  let received = 0;
  let loaded = files.reduce((sum, file) => sum + (missing.includes(file) ? 0 : (file.size ?? 0)), 0);
  const total = () =>
    files.reduce((sum, {size}) => sum + (size ?? 0), 0) +
    jobs.reduce((sum, {file, size}) => sum + (file.size === undefined ? (size ?? 0) : 0), 0);
  try {
    for (const file of missing) {
      const partial = await store.openPartial(model.shelf.partial(file), identityOf(file));
      let fileLoaded = bytesIn(partial.stored);
      loaded += fileLoaded;
      const job: FileDownload = new FileDownload(file, model, partial, requests, chunk, bytes => {
        loaded += bytes;
        fileLoaded += bytes;
        if (bytes > 0) received += bytes;
        onProgress?.({file: file.path, loaded, total: total(), fileLoaded, fileTotal: job.size});
      });
      jobs.push(job);
    }
    await checkSpace(model, total() - loaded);
    await runAll(jobs, connections, [signal, lost]);
    return received;
  } finally {
    for (const job of jobs) await job.close();
  }
}

/** @throws ValueError if the disk has no space for `bytes`. */
async function checkSpace({name, shelf}: HubModel, bytes: number): Promise<void> {
  const free = await store.freeBytes(shelf.folder);
  if (free === undefined || bytes <= 0 || bytes + RESERVE <= free) return;
  throw new ValueError(
    `Expected ${formatBytes(bytes)} of free space for ${name} in ${shelf.folder}. Received: ${formatBytes(free)}. ` +
      'Free space there, remove models with "gemma3 cache remove", or name another folder for the cache in ' +
      'KAGGLEHUB_CACHE or HF_HUB_CACHE.',
  );
}

/** Runs the tasks of all files on some connections, and finishes each file when its last byte has arrived. */
async function runAll(
  jobs: readonly FileDownload[],
  connections: number,
  signals: readonly (AbortSignal | undefined)[],
): Promise<void> {
  const stop = new AbortController();
  const stopped = stop.signal;
  const listeners = signals.map(signal => {
    const abort = () => stop.abort(signal!.reason);
    if (signal?.aborted) abort();
    signal?.addEventListener('abort', abort, {once: true});
    return () => signal?.removeEventListener('abort', abort);
  });
  let wake = () => {};
  let changed = new Promise<void>(resolve => (wake = resolve));
  const notify = () => {
    wake();
    changed = new Promise(resolve => (wake = resolve));
  };
  const ended = aborted(stopped);
  const finishing = new Set<FileDownload>();
  let turn: Promise<void> = Promise.resolve();
  const inTurn = (run: () => Promise<void>) => {
    const done = turn.then(run);
    turn = done.catch(() => {});
    return done;
  };

  /** Takes one step. Returns false if there is nothing to do at the moment. */
  const step = async (): Promise<boolean> => {
    const full = jobs.find(job => !job.done && !finishing.has(job) && job.isFull());
    if (full) {
      finishing.add(full);
      await full.finish(stopped, inTurn).finally(() => finishing.delete(full));
      return true;
    }
    for (const job of jobs) {
      if (finishing.has(job)) continue;
      const task = job.next();
      if (!task) continue;
      await job.run(task, stopped);
      return true;
    }
    return false;
  };
  const worker = async () => {
    while (jobs.some(job => !job.done)) {
      stopped.throwIfAborted();
      const waiting = changed;
      if (await step()) notify();
      else await Promise.race([waiting, ended]);
    }
  };
  const workers = Array.from({length: connections}, () =>
    worker().catch((error: unknown) => {
      stop.abort(error);
      throw error;
    }),
  );
  await Promise.allSettled(workers);
  for (const end of listeners) end();
  // Of several errors the first one is the cause, which the others got as the reason.
  stopped.throwIfAborted();
}

/** Resolves when the signal is aborted. */
const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise(resolve => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), {once: true});
  });

/** Progress bars. Shown only on a terminal. */
import {SingleBar} from 'cli-progress';
import type {LoadProgress} from 'tfjs-gemma3';
import {type Io} from './io';

/** Callbacks of `fromPreset` that show bars. */
export interface LoadingBars {
  onProgress: (progress: LoadProgress) => void;
  onDownload: (progress: LoadProgress) => void;
}

/** Shows bars while a model is downloaded, if it has to be, and loaded. */
export function withLoadingBar<T>(io: Io, load: (bars: LoadingBars) => Promise<T>): Promise<T> {
  return withBars(io, show =>
    load({
      onProgress: ({file, loaded, total}) => show('Loading', file, loaded, total),
      onDownload: ({file, loaded, total}) => show('Downloading', file, loaded, total),
    }),
  );
}

/**
 * Shows a bar over the bytes of files while `work` runs.
 *
 * @param verb the text before the name of the file.
 */
export function withBytesBar<T>(
  io: Io,
  verb: string,
  work: (update: (file: string, done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  return withBars(io, show => work((file, done, total) => show(verb, file, done, total)));
}

/** Shows one bar at a time: another one for another verb. */
export async function withBars<T>(
  {stderr}: Io,
  work: (show: (verb: string, file: string, done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  if (!stderr.isTTY) return work(() => {});
  const {formatBytes} = await import('tfjs-gemma3');
  let current: {verb: string; bar: SingleBar} | undefined;
  const start = (verb: string, done: number, total: number, payload: object) => {
    current?.bar.stop();
    const bar = new SingleBar({
      stream: stderr,
      format: `${verb} {file} [{bar}] {percentage}% of {size}`,
      barsize: 24,
      clearOnComplete: true,
      // Otherwise it would install its own handler for Ctrl-C.
      gracefulExit: false,
    });
    bar.start(total, done, payload);
    current = {verb, bar};
    return bar;
  };
  try {
    return await work((verb, file, done, total) => {
      const payload = {file, size: formatBytes(total)};
      const bar = current?.verb === verb ? current.bar : start(verb, done, total, payload);
      bar.setTotal(total);
      bar.update(done, payload);
    });
  } finally {
    current?.bar.stop();
  }
}

/** Progress bars. Shown only on a terminal. */
import {SingleBar} from 'cli-progress';
import type {LoadProgress} from 'tfjs-gemma3';
import {type Io} from './io';

/** Shows a bar while a model is loaded. */
export function withLoadingBar<T>(
  io: Io,
  load: (onProgress: (progress: LoadProgress) => void) => Promise<T>,
): Promise<T> {
  return withBytesBar(io, 'Loading', update => load(({file, loaded, total}) => update(file, loaded, total)));
}

/**
 * Shows a bar over the bytes of files while `work` runs.
 *
 * @param verb the text before the name of the file.
 */
export async function withBytesBar<T>(
  {stderr}: Io,
  verb: string,
  work: (update: (file: string, done: number, total: number) => void) => Promise<T>,
): Promise<T> {
  if (!stderr.isTTY) return work(() => {});
  const {formatBytes} = await import('tfjs-gemma3');
  const bar = new SingleBar({
    stream: stderr,
    format: `${verb} {file} [{bar}] {percentage}% of {size}`,
    barsize: 24,
    clearOnComplete: true,
    // Otherwise it would install its own handler for Ctrl-C.
    gracefulExit: false,
  });
  let started = false;
  try {
    return await work((file, done, total) => {
      const payload = {file, size: formatBytes(total)};
      if (!started) bar.start(total, done, payload);
      started = true;
      bar.update(done, payload);
    });
  } finally {
    bar.stop();
  }
}

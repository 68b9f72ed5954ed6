/** Progress of loading, on a terminal only. */
import {SingleBar} from 'cli-progress';
import type {LoadProgress} from 'tfjs-gemma3';
import {formatBytes} from './format';
import {type Io} from './io';

export interface Progress {
  onProgress: (progress: LoadProgress) => void;
  /** Takes the bar away. */
  stop: () => void;
}

export function loadingBar(io: Io): Progress {
  const {update, stop} = bytesBar(io, 'Loading');
  return {onProgress: ({file, loaded, total}) => update(file, loaded, total), stop};
}

/** A bar over bytes of files. */
export function bytesBar(
  {stderr}: Io,
  verb: string,
): {update: (file: string, done: number, total: number) => void; stop: () => void} {
  if (!stderr.isTTY) return {update: () => {}, stop: () => {}};
  const bar = new SingleBar({
    stream: stderr,
    format: `${verb} {file} [{bar}] {percentage}% of {size}`,
    barsize: 24,
    clearOnComplete: true,
    // It would install a handler of its own for Ctrl-C.
    gracefulExit: false,
  });
  let started = false;
  return {
    update: (file, done, total) => {
      const payload = {file, size: formatBytes(total)};
      if (!started) bar.start(total, done, payload);
      started = true;
      bar.update(done, payload);
    },
    stop: () => bar.stop(),
  };
}

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

export function loadingBar({stderr}: Io): Progress {
  if (!stderr.isTTY) return {onProgress: () => {}, stop: () => {}};
  const bar = new SingleBar({
    stream: stderr,
    format: 'Loading {file} [{bar}] {percentage}% of {size}',
    barsize: 24,
    clearOnComplete: true,
    // It would install a handler of its own for Ctrl-C.
    gracefulExit: false,
  });
  let started = false;
  return {
    onProgress: ({file, loaded, total}) => {
      const payload = {file, size: formatBytes(total)};
      if (!started) bar.start(total, loaded, payload);
      started = true;
      bar.update(loaded, payload);
    },
    stop: () => bar.stop(),
  };
}

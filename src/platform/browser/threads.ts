/** Threads in browsers: workers started from a `blob:` URL. */
import {type Thread, type Threads} from '../contract';

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
  // Browsers do not report that a worker has ended, so there is nothing to wait for.
  const kill = async () => {
    worker.terminate();
    end();
  };
  const send = (message: unknown) => worker.postMessage(message);
  return {ready, ended, send, kill, stop: kill};
}

export const coreCount = (): number => navigator.hardwareConcurrency ?? 1;

void ({startThread, coreCount} satisfies Threads);

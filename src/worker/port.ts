/** Workers and ports of browsers and Node, on the page's side. */
import {describeValue, ValueError} from '../base/errors';
import {WorkerEndedError} from './ended';

/** A Worker of a browser. */
interface BrowserWorker {
  postMessage(message: unknown): void;
  addEventListener(type: string, listener: (event: Event) => void): void;
  terminate?(): void;
  close?(): void;
}

/** A thread of Node's `worker_threads`. */
interface NodeThread {
  postMessage(message: unknown): void;
  on(event: string, listener: (value: unknown) => void): unknown;
  terminate(): Promise<unknown>;
}

/** A Worker, a thread of Node, or a port connected to one, such as that of a `SharedWorker`. */
export type WorkerLike = BrowserWorker | NodeThread;

/** The other side. */
export interface Port {
  send(message: unknown): void;
  end(): void;
}

const isThread = (worker: WorkerLike): worker is NodeThread =>
  !('addEventListener' in worker) && typeof worker.on === 'function' && typeof worker.terminate === 'function';

/** @throws ValueError on anything but a Worker. */
function check(worker: WorkerLike): void {
  const {postMessage, addEventListener, on} = (worker ?? {}) as Partial<BrowserWorker & NodeThread>;
  if (typeof postMessage === 'function' && (typeof addEventListener === 'function' || typeof on === 'function')) return;
  throw new ValueError(
    "Expected a Worker: new Worker(new URL('./model.worker.js', import.meta.url), {type: 'module'}). " +
      `Received: ${describeValue(worker)}.`,
  );
}

const failed = (detail: string, cause?: unknown) =>
  new WorkerEndedError('failed', detail, cause === undefined ? undefined : {cause});

/**
 * Listens to a Worker.
 *
 * @param onMessage called with the data of each message.
 * @param onEnd called when the Worker has ended, perhaps more than once.
 */
export function openPort(
  worker: WorkerLike,
  onMessage: (data: unknown) => void,
  onEnd: (error: WorkerEndedError) => void,
): Port {
  check(worker);
  const send = (message: unknown) => worker.postMessage(message);
  const unreadable = () => onEnd(failed('a message that could not be read'));
  if (isThread(worker)) {
    worker.on('message', onMessage);
    worker.on('messageerror', unreadable);
    worker.on('error', error => onEnd(failed(`one that threw ${String(error)}`, error)));
    worker.on('exit', code => onEnd(new WorkerEndedError('lost', `one that ended with code ${String(code)}`)));
    return {send, end: () => void worker.terminate()};
  }
  worker.addEventListener('message', event => onMessage((event as MessageEvent<unknown>).data));
  worker.addEventListener('messageerror', unreadable);
  worker.addEventListener('error', event => {
    // A script that could not be loaded has no message.
    const {message} = event as ErrorEvent;
    onEnd(failed(message ? `one that threw: ${message}` : 'one whose script could not be loaded'));
  });
  worker.addEventListener('close', () => onEnd(new WorkerEndedError('lost', 'a port that was closed')));
  if ('start' in worker && typeof worker.start === 'function') worker.start();
  return {send, end: () => (worker.terminate ? worker.terminate() : worker.close?.())};
}

/**
 * Waits for a lock that the Worker holds as long as it lives. No event reports that a browser has ended a Worker, but
 * its locks are then released.
 */
export async function waitForLock(name: string, onFree: () => void): Promise<void> {
  await navigator.locks.request(name, onFree);
}

import {availableParallelism} from 'node:os';
import {Worker} from 'node:worker_threads';

/** A thread that runs a function of its data. It does not keep the process alive. */
export interface Thread {
  /** Settles when the thread says that it is ready, or ends before. */
  readonly ready: Promise<void>;
  /** Settles when the thread has ended, for whatever reason. */
  readonly ended: Promise<void>;
  /** A message, which waits until the thread receives it. */
  send(message: unknown): void;
  /** Ends the thread, whatever it does. */
  kill(): Promise<void>;
  /** Waits a moment for the thread to end by itself, then ends it. */
  stop(): Promise<void>;
}

/** How long a thread may take to end by itself. */
const GRACE = 1000;

/**
 * Starts a thread on the text of a function `(data, {ready, receive, end}) => void`. The thread lives until it calls `end`,
 * and hears of a message only between calls: `receive(handler)` takes the next one.
 */
export function startThread(source: string, data: unknown): Thread {
  const text =
    `const {parentPort, workerData} = require('node:worker_threads');\n` +
    `(${source})(workerData, {
      ready: () => parentPort.postMessage('ready'),
      receive: handler => void parentPort.once('message', handler),
      end: () => parentPort.close(),
    });`;
  const worker = new Worker(text, {eval: true, workerData: data});
  const ended = new Promise<void>(resolve => worker.once('exit', () => resolve()));
  const ready = new Promise<void>((resolve, reject) => {
    worker.once('message', () => {
      worker.unref();
      resolve();
    });
    worker.on('error', reject); // stays: an error that nobody listens to would end the process
    worker.once('exit', code => reject(new Error(`A thread ended with code ${code} before it was ready.`)));
  });
  const kill = async () => void (await worker.terminate());
  const stop = async () => {
    worker.ref();
    const timer = setTimeout(() => void kill(), GRACE);
    await ended;
    clearTimeout(timer);
  };
  const send = (message: unknown) => worker.postMessage(message);
  return {ready, ended, send, kill, stop};
}

export const coreCount = (): number => availableParallelism();

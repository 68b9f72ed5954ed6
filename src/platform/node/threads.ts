/** Threads in Node: workers of `node:worker_threads`. */
import {availableParallelism} from 'node:os';
import {Worker} from 'node:worker_threads';
import {type Thread, type Threads} from '../contract';

/** How long a thread may take to end on its own, in milliseconds. */
const GRACE = 1000;

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
    // Stays registered: an error event without a listener would end the process.
    worker.on('error', reject);
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

void ({startThread, coreCount} satisfies Threads);

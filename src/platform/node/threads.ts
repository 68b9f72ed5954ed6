/** Threads in Node: workers of `node:worker_threads`. */
import {readFileSync} from 'node:fs';
import {availableParallelism} from 'node:os';
import {Worker} from 'node:worker_threads';
import {type Thread, type Threads} from '../contract';
import {codeOf} from './disk';

/** Address space that a thread may reserve, in bytes. V8 ends the process if it cannot. */
const THREAD_SPACE = 2 ** 30;
/** Threads that have not reserved it yet. */
let starting = 0;

/** How long a thread may take to end on its own, in milliseconds. */
const GRACE = 1000;

export function startThread(source: string, data: unknown): Thread {
  // The port of Deno has no `close`.
  const text =
    `const {parentPort, workerData} = require('node:worker_threads');\n` +
    `(${source})(workerData, {
      ready: () => parentPort.postMessage('ready'),
      receive: handler => void parentPort.once('message', handler),
      end: () => (parentPort.close ? parentPort.close() : process.exit()),
    });`;
  requireSpace();
  const worker = newWorker(text, data);
  starting++;
  const ended = new Promise<void>(resolve => worker.once('exit', () => resolve()));
  const ready = new Promise<void>((resolve, reject) => {
    worker.once('message', () => {
      worker.unref();
      resolve();
    });
    // This listener stays: an error event without a listener would end the process.
    worker.on('error', error =>
      reject(
        new Error(`Threads are refused: ${error.message}. Raise the limits on threads and memory of this process.`),
      ),
    );
    worker.once('exit', code => reject(new Error(`A thread ended with code ${code} before it was ready.`)));
  });
  void ready.catch(() => {}).then(() => starting--);
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

/** @throws Error if the address space is limited, and too little is left for another thread. */
function requireSpace(): void {
  const left = spaceLeft();
  if (left >= (starting + 1) * THREAD_SPACE) return;
  throw new Error(
    `Threads are refused: ${Math.floor(left / 2 ** 20)} MiB of address space are left, and ${starting + 1} may take ` +
      `${(starting + 1) * 1024}. Raise its limit (ulimit -v).`,
  );
}

/** Only Linux reports it. */
export function spaceLeft(): number {
  try {
    const limit = /^Max address space +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
    const used = /^VmSize:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return limit && used ? Number(limit[1]) - Number(used[1]) * 1024 : Infinity;
  } catch {
    return Infinity;
  }
}

function newWorker(text: string, workerData: unknown): Worker {
  try {
    return new Worker(text, {eval: true, workerData});
  } catch (error) {
    const advice =
      codeOf(error) === 'ERR_ACCESS_DENIED'
        ? "Under Node's permission model, start it with --allow-worker."
        : 'Raise the limits on threads and memory of this process.';
    throw new Error(`Threads are refused: ${(error as Error).message.replace(/\.$/, '')}. ${advice}`, {cause: error});
  }
}

export const coreCount = (): number => availableParallelism();

void ({startThread, coreCount, spaceLeft} satisfies Threads);

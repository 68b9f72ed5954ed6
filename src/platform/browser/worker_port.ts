/** The port of a browser's Worker. */
import {type WorkerPort} from '../contract';

/** The part of a Worker's global scope that a page's lacks. */
interface WorkerScope {
  importScripts?: unknown;
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<unknown>) => void): void;
  close(): void;
}

export const ownPort: WorkerPort['ownPort'] = () => {
  const scope = globalThis as unknown as WorkerScope;
  if (typeof scope.importScripts !== 'function') return undefined;
  return {
    send: (message, transfer) => scope.postMessage(message, transfer as Transferable[]),
    listen: receive => scope.addEventListener('message', ({data}) => receive(data)),
  };
};

export const holdLock: WorkerPort['holdLock'] = async () => {
  // Only pages from https or this machine have locks.
  const {locks} = navigator as Partial<Navigator>;
  if (!locks) return undefined;
  const name = `tfjs-gemma3-${crypto.randomUUID()}`;
  return new Promise((resolve, reject) => {
    locks
      .request(name, () => {
        resolve(name);
        return new Promise<never>(() => {});
      })
      .catch(reject);
  });
};

void ({ownPort, holdLock} satisfies WorkerPort);

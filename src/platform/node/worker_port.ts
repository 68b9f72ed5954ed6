/** The port of a thread of Node. */
import {parentPort, type TransferListItem} from 'node:worker_threads';
import {type WorkerPort} from '../contract';

export const ownPort: WorkerPort['ownPort'] = () => {
  const port = parentPort;
  return (
    port && {
      send: (message, transfer) => port.postMessage(message, transfer as TransferListItem[]),
      listen: receive => port.on('message', receive),
    }
  );
};

/** Node reports when a thread has ended. */
export const holdLock: WorkerPort['holdLock'] = async () => undefined;

void ({ownPort, holdLock} satisfies WorkerPort);

/** Yields to the event loop in Node. */
import {type Turn} from '../contract';

export const nextTurn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

void ({nextTurn} satisfies Turn);

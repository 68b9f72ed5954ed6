/** Lets everything else that waits run once: timers, signals, sockets. */
export const nextTurn = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

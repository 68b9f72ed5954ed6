/** Lets everything else that waits run once. Timers would wait 4 ms each, frames 16. */
export const nextTurn = (): Promise<void> =>
  new Promise(resolve => {
    const {port1, port2} = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });

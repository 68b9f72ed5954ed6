/** Yields to the event loop in browsers. */
import {type Turn} from '../contract';

/** Those that wait for their turn, in order. */
const waiting: (() => void)[] = [];
let port: MessagePort | undefined;

/** One for all turns: creating a channel takes longer than a message. */
function openChannel(): MessagePort {
  const {port1, port2} = new MessageChannel();
  port1.onmessage = () => waiting.shift()!();
  return port2;
}

/** Uses a message, because a timer would wait 4 ms and an animation frame 16 ms, and longer in a hidden tab. */
export const nextTurn = (): Promise<void> =>
  new Promise(resolve => {
    waiting.push(resolve);
    (port ??= openChannel()).postMessage(null);
  });

void ({nextTurn} satisfies Turn);

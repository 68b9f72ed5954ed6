/** Yields to the event loop in browsers. */
import {type Turn} from '../contract';

/** When a program runs the browser build in Node, ports keep the process alive unless they are unreferenced. */
type Port = MessagePort & {ref?(): void; unref?(): void};

/** Callers that wait, in order. */
const waiting: (() => void)[] = [];
let ports: {sender: MessagePort; receiver: Port} | undefined;

/** Shared by all calls: creating a channel takes longer than sending a message. */
function openChannel(): NonNullable<typeof ports> {
  const {port1: receiver, port2: sender}: {port1: Port; port2: MessagePort} = new MessageChannel();
  receiver.onmessage = () => {
    waiting.shift()!();
    if (waiting.length === 0) receiver.unref?.();
  };
  return {sender, receiver};
}

/** Uses a message, because a timer would wait 4 ms and an animation frame 16 ms, and longer in a hidden tab. */
export const nextTurn = (): Promise<void> =>
  new Promise(resolve => {
    ports ??= openChannel();
    if (waiting.push(resolve) === 1) ports.receiver.ref?.();
    ports.sender.postMessage(null);
  });

void ({nextTurn} satisfies Turn);

/**
 * The Worker's side: runs the calls of a page.
 *
 * @module tfjs-gemma3/worker/host
 */
import {holdLock, ownPort} from '#platform/worker_port';
import {show, ValueError} from '../base/errors';
import {attach} from './arguments';
import {CallContext, Store} from './call_context';
import {errorMessage} from './error_messages';
import {type FromWorker, isOurs, type ToWorker} from './messages';
import {operations} from './operations';

/** The other end of a `MessageChannel`, for programs without their own Worker. */
export interface HostPort {
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: 'message', listener: (event: MessageEvent<unknown>) => void): void;
  start?(): void;
}

type OwnPort = NonNullable<ReturnType<typeof ownPort>>;

function portOf(port: HostPort | undefined): OwnPort {
  const own = port
    ? {
        send: (message: unknown, transfer: readonly ArrayBuffer[]) => port.postMessage(message, [...transfer]),
        listen: (receive: (data: unknown) => void) => port.addEventListener('message', ({data}) => receive(data)),
      }
    : ownPort();
  if (own) return own;
  throw new ValueError(
    'serve expected to be called in a Worker. Received: a call in a page or the main thread. Call it in a file of its ' +
      'own, which the page starts: new Worker(new URL(…, import.meta.url), {type: "module"}).',
  );
}

/** Memory of results that can be transferred to the page: of a single array, a list of arrays, or arrays by name. */
function memoryOf(value: unknown): ArrayBuffer[] {
  const arrays = ArrayBuffer.isView(value) ? [value] : typeof value === 'object' && value ? Object.values(value) : [];
  const buffers = arrays
    .filter((one): one is ArrayBufferView => ArrayBuffer.isView(one) && one.byteLength === one.buffer.byteLength)
    .map(({buffer}) => buffer)
    .filter(buffer => buffer instanceof ArrayBuffer);
  return [...new Set(buffers)];
}

type Operation = (context: CallContext, ...args: unknown[]) => Promise<unknown>;

function operationOf(name: string): Operation {
  if (Object.hasOwn(operations, name)) return operations[name as keyof typeof operations] as unknown as Operation;
  throw new ValueError(
    `Expected one of ${Object.keys(operations).join(', ')}. Received: ${show(name)}. Use one version of tfjs-gemma3 in the ` +
      'page and in its Worker.',
  );
}

/**
 * Lets a page load models in this Worker, or in this thread of Node: see `ModelWorker` of `tfjs-gemma3/worker`. Call it
 * once, when the Worker starts.
 *
 * @param port another port to serve, such as one of a `SharedWorker`. Defaults to that of the Worker.
 * @throws ValueError in a page or on the main thread.
 */
export function serve(port?: HostPort): void {
  const {send: post, listen} = portOf(port);
  const store = new Store();
  const running = new Map<number, CallContext>();
  const send = (message: FromWorker, transfer: readonly ArrayBuffer[] = []) => post(message, transfer);

  async function run({id, name, args, callbacks, signals}: Extract<ToWorker, {gemma3: 'call'}>): Promise<void> {
    const report = (event: string, value: unknown) => send({gemma3: 'event', id, name: event, value});
    const context = new CallContext(store, report);
    running.set(id, context);
    try {
      callbacks.forEach((place, index) =>
        attach(args, place, (...values: unknown[]) => send({gemma3: 'callback', id, index, values})),
      );
      for (const place of signals) attach(args, place, context.signal);
      const value = await operationOf(name)(context, ...args);
      send({gemma3: 'result', id, value}, memoryOf(value));
    } catch (error) {
      if (context.signal.aborted && error === context.signal.reason) send({gemma3: 'aborted', id});
      else send({gemma3: 'error', id, error: errorMessage(error)});
    } finally {
      running.delete(id);
    }
  }

  listen(data => {
    if (!isOurs(data)) return;
    const message = data as ToWorker;
    if (message.gemma3 === 'call') void run(message);
    else if (message.gemma3 === 'abort') running.get(message.id)?.abort();
    else running.get(message.id)?.control(message.control);
  });
  port?.start?.();
  // A port of another kind of Worker lives as long as its page.
  if (!port) holdLock().then(lock => send({gemma3: 'started', lock}), console.warn);
}

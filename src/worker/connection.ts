/** Calls from the page to its Worker, and their rejection when it ends. */
import {ValueError} from '../base/errors';
import {detach, type Detached} from './arguments';
import {WorkerEndedError} from './ended';
import {errorOf} from './error_messages';
import {type Control, type FromWorker, isOurs, type Place, type ToWorker} from './messages';
import type {OperationArgs, OperationName, OperationResult} from './operations';
import {openPort, type Port, waitForLock, type WorkerLike} from './port';

/** A call that has not ended. */
interface Pending {
  callbacks: Detached['callbacks'];
  onEvent: ((name: string, value: unknown) => void) | undefined;
  /** The error that a callback threw: the call rejects with it. */
  thrown: {error: unknown} | undefined;
  aborted: AbortSignal | undefined;
  resolve(value: unknown): void;
  reject(error: unknown): void;
  /** Removes listeners. */
  forget(): void;
}

/** A call, and ways to control it. */
export interface Call<R> {
  result: Promise<R>;
  control(control: Control): void;
}

/** What a call needs besides its arguments. */
export interface CallOptions {
  /** Called with the Worker's reports before the end of the call. */
  onEvent?: (name: string, value: unknown) => void;
}

function cannotBeSent(error: unknown): unknown {
  const {name, message} = error as Error;
  if (name !== 'DataCloneError') return error;
  return new ValueError(
    'Expected arguments that a Worker can receive: texts, numbers, arrays, Blobs, ImageData, ImageBitmaps. Received: ' +
      `${message.replace(/\.$/, '')}. Pass the \`href\` of a URL, the file of an image instead of its element, and arrays instead of tensors.`,
    {cause: error},
  );
}

/** Positions of signals, for the Worker. A call with callbacks always has one, which ends it when a callback throws. */
function signalPlaces(callbacks: Detached['callbacks'], signals: Detached['signals']): Place[] {
  const places = [...signals.map(({place}) => place), ...callbacks.map(({place}) => [place[0]!, 'signal'])];
  return [...new Map(places.map(place => [place.join(), place])).values()];
}

/** The page's side of the connection to a Worker. */
export class Connection {
  private readonly port: Port;
  private readonly pending = new Map<number, Pending>();
  private lastId = 0;
  private end: WorkerEndedError | undefined;
  private announceEnd!: (error: WorkerEndedError) => void;
  /** Resolves when the Worker has ended. */
  readonly ended = new Promise<WorkerEndedError>(resolve => (this.announceEnd = resolve));

  constructor(worker: WorkerLike) {
    this.port = openPort(
      worker,
      data => isOurs(data) && this.receive(data as FromWorker),
      error => this.close(error),
    );
  }

  /** Starts a call. Its result rejects with the error of the Worker, or with the reason of a signal in its arguments. */
  start<N extends OperationName>(
    name: N,
    args: OperationArgs<N>,
    {onEvent}: CallOptions = {},
  ): Call<OperationResult<N>> {
    const id = ++this.lastId;
    const result = new Promise<OperationResult<N>>((resolve, reject) => {
      if (this.end) throw this.end;
      const {args: plain, callbacks, signals} = detach(args);
      for (const {signal} of signals) signal.throwIfAborted();
      const places = {callbacks: callbacks.map(({place}) => place), signals: signalPlaces(callbacks, signals)};
      try {
        this.send({gemma3: 'call', id, name, args: plain, ...places});
      } catch (error) {
        throw cannotBeSent(error);
      }
      const pending: Pending = {
        ...{callbacks, onEvent, reject, thrown: undefined, aborted: undefined},
        resolve: value => resolve(value as OperationResult<N>),
        forget: () => listeners.forEach(([signal, listener]) => signal.removeEventListener('abort', listener)),
      };
      const listeners = signals.map(({signal}) => {
        const listener = () => {
          pending.aborted = signal;
          this.send({gemma3: 'abort', id});
        };
        signal.addEventListener('abort', listener);
        return [signal, listener] as const;
      });
      this.pending.set(id, pending);
    });
    const control = (what: Control) => {
      if (this.pending.has(id)) this.send({gemma3: 'control', id, control: what});
    };
    return {result, control};
  }

  /** Calls, and waits for the result. */
  async call<N extends OperationName>(name: N, ...args: OperationArgs<N>): Promise<OperationResult<N>> {
    return this.start(name, args).result;
  }

  terminate(): void {
    this.close(new WorkerEndedError('terminated', 'one that was terminated'));
  }

  private send(message: ToWorker): void {
    this.port.send(message);
  }

  private close(error: WorkerEndedError): void {
    if (this.end) return;
    this.end = error;
    this.port.end();
    for (const call of this.pending.values()) {
      call.forget();
      call.reject(error);
    }
    this.pending.clear();
    this.announceEnd(error);
  }

  private receive(message: FromWorker): void {
    if (message.gemma3 === 'started') {
      if (message.lock === undefined) return;
      const lost = new WorkerEndedError('lost', 'one that the browser ended, perhaps because memory ran out');
      waitForLock(message.lock, () => this.close(lost)).catch(error => console.warn(error));
      return;
    }
    const call = this.pending.get(message.id);
    if (!call) return;
    if (message.gemma3 === 'callback') this.callBack(message.id, call, message);
    else if (message.gemma3 === 'event') call.onEvent?.(message.name, message.value);
    else this.finish(message.id, call, message);
  }

  /** Calls a function of the arguments. If it throws, the call ends with its error, as it would in the page. */
  private callBack(id: number, call: Pending, {index, values}: {index: number; values: unknown[]}): void {
    if (call.thrown) return;
    const fail = (error: unknown) => {
      // Nothing waits for the call any more.
      if (!this.pending.has(id)) throw error;
      if (call.thrown) return;
      call.thrown = {error};
      this.send({gemma3: 'abort', id});
    };
    try {
      const returned = call.callbacks[index]!.call(...values);
      if (returned instanceof Promise) returned.catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  private finish(
    id: number,
    call: Pending,
    message: Extract<FromWorker, {gemma3: 'result' | 'error' | 'aborted'}>,
  ): void {
    this.pending.delete(id);
    call.forget();
    if (call.thrown) call.reject(call.thrown.error);
    else if (message.gemma3 === 'result') call.resolve(message.value);
    else if (message.gemma3 === 'error') call.reject(errorOf(message.error));
    else call.reject(call.aborted?.reason);
  }
}

/** A model in a thread of its own, for a process that must stay responsive. */
import {Worker} from 'node:worker_threads';
import type {AnswerOptions, FromModel, Prompt, ToModel} from './messages.js';

type OfRequest = Extract<FromModel, {id: number}>;

export class ModelThread {
  private readonly worker: Worker;
  private readonly requests = new Map<number, (message: OfRequest) => void>();
  private lastId = 0;
  /** The backend that the model runs on. Rejects if the model cannot be loaded. */
  readonly ready: Promise<string>;

  constructor(preset: string) {
    this.worker = new Worker(new URL('./worker.js', import.meta.url), {workerData: {preset}});
    this.ready = new Promise((resolve, reject) => {
      this.worker.on('message', (message: FromModel) => {
        if (message.type === 'ready') resolve(message.backend);
        else this.requests.get(message.id)?.(message);
      });
      this.worker.once('error', reject);
      this.worker.once('exit', () => reject(new Error('The thread of the model has ended.')));
    });
    this.ready.catch(error => this.fail(String(error)));
    this.worker.once('exit', () => this.fail('The thread of the model has ended.'));
  }

  /** Yields the answer as it is generated. Ends early when the signal aborts, or when the loop is left. */
  async *stream(prompt: Prompt, {signal, ...options}: AnswerOptions & {signal?: AbortSignal} = {}) {
    await this.ready;
    if (signal?.aborted) return;
    const id = ++this.lastId;
    const messages: OfRequest[] = [];
    let wake = () => {};
    const onAbort = () => wake();
    this.requests.set(id, message => {
      messages.push(message);
      wake();
    });
    signal?.addEventListener('abort', onAbort);
    this.send({type: 'generate', id, prompt, options});
    let ended = false;
    try {
      while (!signal?.aborted) {
        const message = messages.shift();
        if (!message) await new Promise<void>(resolve => (wake = resolve));
        else if (message.type === 'piece') yield message.piece;
        else {
          ended = true;
          if (message.type === 'error') throw new Error(message.message);
          return;
        }
      }
    } finally {
      if (!ended) this.send({type: 'abort', id});
      signal?.removeEventListener('abort', onAbort);
      this.requests.delete(id);
    }
  }

  /** Stops what is running, and ends the thread. → its exit code */
  close(): Promise<number> {
    const exited = new Promise<number>(resolve => this.worker.once('exit', resolve));
    this.send({type: 'close'});
    return exited;
  }

  private send(message: ToModel) {
    this.worker.postMessage(message);
  }

  private fail(message: string) {
    for (const [id, listener] of this.requests) listener({type: 'error', id, message});
  }
}

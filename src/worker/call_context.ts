/** A call on the Worker's side: its signal, requests of the page while it runs, and its reports. */
import {ValueError} from '../base/errors';
import {type Control} from './messages';

interface Disposable {
  dispose(): unknown;
}

/** Models and conversations, which the page refers to by numbers. */
export class Store {
  private readonly objects = new Map<number, Disposable>();
  /** Objects that are disposed with a model. */
  private readonly owned = new WeakMap<object, Disposable>();
  private lastKey = 0;

  add(object: Disposable): number {
    this.objects.set(++this.lastKey, object);
    return this.lastKey;
  }

  /** @throws ValueError if it no longer exists. */
  get<T extends Disposable>(key: number, kind: abstract new (...args: never[]) => T): T {
    const found = this.objects.get(key);
    if (found instanceof kind) return found;
    throw new ValueError(
      'Expected a model or a conversation in use. Received: one that was disposed. Load or start it again.',
    );
  }

  /** Disposes `part` with its owner, or when the owner gets another one. */
  own(owner: Disposable, part: Disposable | undefined): void {
    this.owned.get(owner)?.dispose();
    if (part) this.owned.set(owner, part);
    else this.owned.delete(owner);
  }

  /** Frees an object, unless that was done before. If it throws, it stays. */
  dispose(key: number): void {
    const found = this.objects.get(key);
    if (!found) return;
    found.dispose();
    this.own(found, undefined);
    this.objects.delete(key);
  }
}

export class CallContext {
  private readonly controller = new AbortController();
  private paused = false;
  private stopped = false;
  private wake = () => {};

  constructor(
    readonly store: Store,
    /** Reports something to the page before the call ends. */
    readonly report: (name: string, value: unknown) => void,
  ) {}

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  abort(): void {
    this.controller.abort();
    this.wake();
  }

  control(control: Control): void {
    if (control === 'stop') this.stopped = true;
    this.paused = control === 'pause';
    this.wake();
  }

  /** Waits while the call is paused. Returns whether it should stop. */
  async turn(): Promise<boolean> {
    if (this.paused) this.report('paused', true);
    while (this.paused && !this.signal.aborted) await new Promise<void>(resolve => (this.wake = resolve));
    return this.stopped;
  }
}

/** A text that a Worker generates, piece by piece. */
import type {Ending} from '../generation/ending';
import {checkSignal} from './arguments';
import type {Call} from './connection';

/** Starts a call: its signal stops it, and `onPiece` gets its pieces. */
export type StartStream = (own: {
  signal: AbortSignal;
  onFinish: (ending: Ending) => void;
  onEvent: (name: string, value: unknown) => void;
}) => Call<void>;

/** Options that a stream passes on. */
interface StreamOptions {
  signal?: AbortSignal;
  onFinish?: (ending: Ending, row: number) => void;
}

/**
 * A text while it is generated: `for await (const piece of stream)`. The Worker starts when the first piece is
 * requested, and does not wait for the page. When the loop is left, it stops.
 */
export class TextStream implements AsyncIterableIterator<string, void> {
  /** How the text ended; undefined until then, and if it failed. */
  ending: Ending | undefined;
  private readonly pieces: AsyncGenerator<string, void>;

  /** @internal */
  constructor(start: StartStream, options: StreamOptions) {
    this.pieces = this.generate(start, options);
  }

  next(): Promise<IteratorResult<string, void>> {
    return this.pieces.next();
  }

  /** Stops the Worker, and waits until it has. */
  return(): Promise<IteratorResult<string, void>> {
    return this.pieces.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  private async *generate(start: StartStream, {signal, onFinish}: StreamOptions): AsyncGenerator<string, void> {
    checkSignal(signal);
    signal?.throwIfAborted();
    const controller = new AbortController();
    const abort = () => controller.abort(signal!.reason);
    signal?.addEventListener('abort', abort);
    const queue: string[] = [];
    let wake = () => {};
    let ended = false;
    const {result} = start({
      signal: controller.signal,
      onFinish: ending => {
        this.ending = ending;
        onFinish?.(ending, 0);
      },
      onEvent: (name, value) => {
        if (name === 'piece') queue.push(value as string);
        wake();
      },
    });
    const settled = result
      .catch(() => {})
      .then(() => {
        ended = true;
        wake();
      });
    try {
      while (!ended || queue.length) {
        if (queue.length) yield queue.shift()!;
        else await new Promise<void>(resolve => (wake = resolve));
      }
      await result;
    } finally {
      signal?.removeEventListener('abort', abort);
      controller.abort();
      await settled;
    }
  }
}

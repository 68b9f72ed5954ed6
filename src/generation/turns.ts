/** Lets other code run during long computations, on backends that compute synchronously. */
import {nextTurn} from '#platform/turn';

/** Milliseconds after which other code runs before the next step. */
const TURN = 4;
/**
 * Milliseconds that a step should take. Some steps take twice as long; even then other code should wait for less than
 * 50 ms.
 */
const STEP = 16;

/**
 * A step has at least this many rows, or a multiple of them: with fewer, reading the weights would take longer than the
 * products.
 */
export const FEWEST_ROWS = 16;
/** Maximum number of rows in a step. More would gain nothing, and cheap rows occasionally take four times as long. */
const MOST_ROWS = 256;

/** Runs a computation step by step: it yields where other code may run. */
export function finish<T>(steps: Generator<void, T>): T {
  for (;;) {
    const {done, value} = steps.next();
    if (done) return value;
  }
}

/** The same steps, with a check after each one, since other code may have run. */
export function* checked<T>(steps: Generator<void, T>, check: () => void): Generator<void, T> {
  try {
    for (;;) {
      const {done, value} = steps.next();
      if (done) return value;
      yield;
      check();
    }
  } finally {
    // Frees what the steps hold.
    steps.return(undefined as never);
  }
}

/** Runs computations step by step, and lets other code run between steps. */
export class Turns {
  /** When other code last ran. */
  private since = performance.now();

  constructor(private readonly signal?: AbortSignal) {}

  /**
   * Lets other code run now.
   *
   * @throws the signal's reason when aborted.
   */
  async next(): Promise<void> {
    await nextTurn();
    this.since = performance.now();
    this.signal?.throwIfAborted();
  }

  /** Runs a computation to its end. Fails or aborts if the computation does. */
  async run<T>(steps: Generator<void, T>): Promise<T> {
    try {
      for (;;) {
        const {done, value} = steps.next();
        if (done) return value;
        if (performance.now() - this.since >= TURN) await this.next();
      }
    } finally {
      // Frees what the steps hold.
      steps.return(undefined as never);
    }
  }
}

/**
 * Divides work on many rows into steps of about the same time, based on the speed of earlier steps. The results must
 * not depend on how rows are divided.
 */
export class Pace {
  /** Multiplications per millisecond, by kind of work. */
  private readonly speeds = new Map<string, number>();

  /**
   * @param kind work of the same kind has about the same speed.
   * @param work multiplications per row.
   * @param run computes `count` rows from row `first` on.
   */
  *divide(kind: string, rows: number, work: number, run: (first: number, count: number) => void): Generator<void> {
    for (let first = 0; first < rows;) {
      // Also before the first piece: the code before it may have taken as long as a step.
      yield;
      const count = this.count(kind, rows - first, work);
      const start = performance.now();
      run(first, count);
      this.measured(kind, (count * work) / Math.max(performance.now() - start, 0.1));
      first += count;
    }
  }

  /** Rows of the next step, chosen so that the remaining steps have about as many. */
  private count(kind: string, rest: number, work: number): number {
    const wanted = Math.min(MOST_ROWS, (STEP * (this.speeds.get(kind) ?? 0)) / work);
    const most = FEWEST_ROWS * Math.max(1, Math.floor(wanted / FEWEST_ROWS));
    return Math.ceil(rest / Math.ceil(rest / most));
  }

  private measured(kind: string, speed: number): void {
    const before = this.speeds.get(kind) ?? speed;
    // Adapts to a slow step at once: when the machine becomes slower, only one step is too long.
    this.speeds.set(kind, Math.min(speed, (before + speed) / 2));
  }
}

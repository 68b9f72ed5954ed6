/**
 * Chooses whether products of one row read their weights ahead (`assembly/parts/stream.ts`). Which is faster differs
 * between processors, by a third in both directions, and only shows with weights that come from memory: at start there
 * are none. So the first large products are timed while they do their work. Both ways give the same bits.
 */
import {MatMulWord} from '../assembly/layouts/mat_mul';
import {MAT_MUL} from '../assembly/numbers';

/** Products of a matrix with fewer elements, which a cache may hold, are not timed. Int4 takes 21 MB for these. */
const LEAST_ELEMENTS = 2 ** 25;
/** The first large products find code that is not optimized, and pages that the processor has not seen. */
const IGNORED = 2;
/** How often each way is timed, in turns. */
const TIMES = 4;

export class ReadingTrial {
  private count = 0;
  private readonly least = {ahead: Infinity, inOrder: Infinity};

  /** How the next product reads its weights. */
  ahead = true;

  /** Whether the choice is made. */
  get done(): boolean {
    return this.count === IGNORED + 2 * TIMES;
  }

  /** Whether this command is a product that shows the difference. */
  static shows(command: number, args: readonly number[]): boolean {
    return (
      command === MAT_MUL &&
      args[MatMulWord.m] === 1 &&
      args[MatMulWord.rows]! * args[MatMulWord.columns]! >= LEAST_ELEMENTS
    );
  }

  /** Takes the time of a product that read its weights as `ahead` says, and sets `ahead` for the next one. */
  add(milliseconds: number): void {
    const {least} = this;
    if (this.count++ >= IGNORED) {
      const way = this.ahead ? 'ahead' : 'inOrder';
      least[way] = Math.min(least[way], milliseconds);
      this.ahead = !this.ahead;
    }
    if (this.done) this.ahead = least.ahead <= least.inOrder;
  }
}

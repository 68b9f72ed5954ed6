/** Leaves rows that have ended out of a batch, so that the model computes only what is still needed. */
import {type DecoderCache, type NewTokens} from './decoder';
import {type Row} from './generation';

export class LiveRows {
  /** Which rows the cache and the logits have, in order. Some may have ended. */
  private live: number[];

  /** @param mayDrop false if all rows must stay, because the sampler draws random numbers for each row. */
  constructor(
    private readonly all: readonly Row[],
    private readonly cache: DecoderCache,
    private readonly mayDrop: boolean,
  ) {
    this.live = all.map((_, row) => row);
  }

  get rows(): readonly Row[] {
    return this.live.map(row => this.all[row]!);
  }

  /** Values of the live rows → values of all rows, null for those that have ended. */
  spread<T>(values: readonly T[]): (T | null)[] {
    const spread = this.all.map((): T | null => null);
    this.live.forEach((row, i) => {
      if (!this.all[row]!.done) spread[row] = values[i]!;
    });
    return spread;
  }

  /**
   * The last token of each live row, for the model. Rows that have ended are dropped once they are half as many as the
   * live ones: dropping copies the caches of the others, so it is not done for each row.
   */
  next(): NewTokens {
    const kept = this.live.flatMap((row, i) => (this.all[row]!.done ? [] : [i]));
    if (this.mayDrop && 2 * kept.length <= this.live.length) {
      this.cache.select(kept);
      this.live = kept.map(i => this.live[i]!);
    }
    const {rows} = this;
    return {
      rows: rows.map(({done, tokens}) => [done ? 0 : tokens.at(-1)!]),
      counts: rows.map(({done}) => (done ? 0 : 1)),
    };
  }
}

/** Decoding several tokens ahead of what the host has read, on backends that choose tokens themselves. */
import {type AheadStep, type DecoderCache, type StepsAhead} from './decoder';
import {type Generation, type Step} from './generation';

/** Random numbers for draws, in order. Those that no draw has used are put back. */
export interface Draws {
  next(): number;
  putBack(unused: readonly number[]): void;
}

/** How many calls of `run` are pending at once: one is computed while the tokens of the other are read. */
const UNDER_WAY = 2;
/** Slack of a cache for at most `mostSteps` steps at once. */
export const slackFor = ({mostSteps}: StepsAhead): number => UNDER_WAY * mostSteps;

/**
 * Milliseconds between two results. With less, reading results and starting new steps may take longer than computing
 * them, so more steps are run at once; with more, a text would come in bursts, and an end or an abort would be delayed.
 */
const SHORTEST = 10;
const LONGEST = 50;

/** How many steps to run at once, estimated from the time that the last ones took. */
export class AheadPace {
  steps = 1;
  private last = performance.now();

  constructor(private readonly most: number) {}

  /** Called when a result has arrived. */
  arrived(): void {
    const now = performance.now();
    const time = now - this.last;
    this.last = now;
    if (time < SHORTEST) this.steps = Math.min(this.most, 2 * this.steps);
    else if (time > LONGEST) this.steps = Math.max(1, this.steps >> 1);
  }
}

interface UnderWay {
  readonly steps: readonly AheadStep[];
  readonly tokens: Promise<Int32Array>;
}

/**
 * Continues rows whose last token is not in the cache yet: until all have ended, or the host has to choose a token.
 * Afterwards the cache has all tokens but the last of each row, as without this function.
 */
export async function* aheadSteps(
  generation: Generation,
  ahead: StepsAhead,
  cache: DecoderCache,
  draws?: Draws,
): AsyncGenerator<Step, void> {
  const {rows} = generation;
  const pace = new AheadPace(ahead.mostSteps);
  const underWay: UnderWay[] = [];
  /** Steps that were started, but whose tokens are not yet in the rows. */
  const pending: AheadStep[] = [];
  const begin = () => {
    const left = rows.map(({done, maxLength, tokens}) => (done ? 0 : maxLength - tokens.length - pending.length));
    const count = Math.min(pace.steps, Math.max(...left));
    if (count <= 0) return false;
    const steps = Array.from({length: count}, (_, i) => ({
      active: left.map(own => own > i),
      uniforms: draws ? rows.map(() => draws.next()) : [],
    }));
    pending.push(...steps);
    const tokens = ahead.run(steps);
    // Failures after an end, or after another failure, are ignored.
    tokens.catch(() => {});
    underWay.push({steps, tokens});
    return true;
  };
  try {
    ahead.start(rows, cache);
    for (;;) {
      while (underWay.length < UNDER_WAY && begin());
      const {steps, tokens: reading} = underWay.shift()!;
      const tokens = await reading;
      pace.arrived();
      for (const [i, {active}] of steps.entries()) {
        const chosen = rows.map(({done}, row) => (done || !active[row] ? null : tokens[i * rows.length + row]!));
        if (chosen.some(token => token !== null && token < 0)) return;
        pending.shift();
        await generation.turn();
        yield* generation.give({tokens: chosen});
        if (generation.done) return;
      }
    }
  } finally {
    ahead.dispose();
    draws?.putBack(pending.flatMap(({uniforms}) => uniforms));
    cache.truncate(rows.map(({tokens}) => tokens.length - 1));
  }
}

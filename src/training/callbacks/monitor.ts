/** Watches one number of the logs, as Keras' `MonitorCallback` does. */
import {checkArgument} from '../../base/checks';
import {show, ValueError} from '../../base/errors';

/** Whether a number should become smaller or larger; "auto" follows from its name. */
export type MonitorMode = 'auto' | 'min' | 'max';

/** Name of a number in the logs of an epoch: the loss, or any metric. */
export type MonitorName = 'loss' | 'val_loss' | 'accuracy' | 'val_accuracy' | (string & {});

/** Arguments of callbacks that watch a number. */
export interface MonitorArgs {
  /** Name of the number in the logs of an epoch. Defaults to "val_loss". */
  monitor?: MonitorName;
  /** Defaults to "auto": losses should fall, accuracies rise. */
  mode?: MonitorMode;
}

/** Names in which lower is better, and names in which higher is better. */
const FALLING = /(^|_)(loss|crossentropy|mse|mae|error)$/;
const RISING = /(^|_)(acc|accuracy)$/;

/** Compares values of one number with the best one so far. */
export class Monitor {
  readonly name: string;
  /** The best value so far; null before the first. */
  best: number | null = null;
  private readonly falling: boolean;
  private readonly minDelta: number;

  /** @throws ValueError on unusable arguments, and if "auto" cannot tell what is better. */
  constructor(owner: string, {monitor = 'val_loss', mode = 'auto'}: MonitorArgs, minDelta: number) {
    checkArgument(owner, 'monitor', monitor, 'text');
    if (mode !== 'auto' && mode !== 'min' && mode !== 'max') {
      throw new ValueError(`${owner} expected \`mode\` as "auto", "min" or "max". Received: mode=${show(mode)}.`);
    }
    if (typeof minDelta !== 'number' || !Number.isFinite(minDelta)) {
      throw new ValueError(`${owner} expected \`minDelta\` as a number. Received: minDelta=${show(minDelta)}.`);
    }
    if (mode === 'auto' && !FALLING.test(monitor) && !RISING.test(monitor)) {
      throw new ValueError(
        `${owner} cannot tell from the name "${monitor}" whether lower or higher values are better. Pass mode: "min" ` +
          'or mode: "max".',
      );
    }
    this.name = monitor;
    this.falling = mode === 'min' || (mode === 'auto' && FALLING.test(monitor));
    this.minDelta = Math.abs(minDelta);
  }

  /** Whether a value is better than a reference by more than `minDelta`; true without a reference. */
  improves(value: number, reference: number | null = this.best): boolean {
    if (reference === null) return true;
    return this.falling ? value + this.minDelta < reference : value - this.minDelta > reference;
  }

  /** The number in the logs; warns if there is none, as Keras does. */
  read(owner: string, logs: Record<string, number>): number | undefined {
    const value = logs[this.name];
    if (value === undefined) {
      const names = Object.keys(logs).join(', ');
      console.warn(`${owner} watches "${this.name}", which is not in the logs. They have: ${names}.`);
    }
    return value;
  }
}

/** @throws ValueError unless `verbose` is 0 or 1. */
export function checkVerbose(owner: string, verbose: unknown): void {
  if (verbose === 0 || verbose === 1) return;
  throw new ValueError(`${owner} expected \`verbose\` as 0 or 1. Received: verbose=${show(verbose)}.`);
}

/** @throws ValueError unless the value is a whole number of at least 0. */
export function checkCount(owner: string, name: string, value: unknown): void {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return;
  throw new ValueError(
    `${owner} expected \`${name}\` as a whole number of at least 0. Received: ${name}=${show(value)}.`,
  );
}

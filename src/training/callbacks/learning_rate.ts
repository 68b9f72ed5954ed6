/** Callbacks that set the learning rate between epochs. */
import {checkArguments} from '../../base/checks';
import {describeValue, show, ValueError} from '../../base/errors';
import {checkCount, checkVerbose, Monitor, type MonitorArgs} from './monitor';
import {numbersOf, RateCallback, readRate, writeRate} from './rate_callback';

/** The epoch, counted from 0, and the current learning rate → the rate of that epoch. */
export type RateFunction = (epoch: number, learningRate: number) => number;

const SCHEDULER = 'LearningRateScheduler';

/**
 * Sets the learning rate at the beginning of each epoch, as `keras.callbacks.LearningRateScheduler`.
 *
 * @throws ValueError unless `schedule` is a function, and when it returns anything but a number of at least 0.
 */
export class LearningRateScheduler extends RateCallback {
  constructor(
    private readonly schedule: RateFunction,
    private readonly options: {verbose?: 0 | 1} = {},
  ) {
    super();
    if (typeof schedule !== 'function') {
      throw new ValueError(`${SCHEDULER} expected \`schedule\` as a function. Received: ${describeValue(schedule)}.`);
    }
    checkArguments(SCHEDULER, options, ['verbose']);
    checkVerbose(SCHEDULER, options.verbose ?? 0);
  }

  override async onEpochBegin(epoch: number): Promise<void> {
    const optimizer = this.trained.optimizer;
    const rate = this.schedule(epoch, readRate(SCHEDULER, optimizer));
    if (typeof rate !== 'number' || !(rate >= 0) || !Number.isFinite(rate)) {
      throw new ValueError(
        `${SCHEDULER} expected its schedule to return a number of at least 0. Received: ${show(rate)}.`,
      );
    }
    writeRate(optimizer!, rate);
    if (this.options.verbose) console.info(`Epoch ${epoch + 1}: learning rate ${rate}`);
  }

  override async onEpochEnd(_epoch: number, logs?: Record<string, unknown>): Promise<void> {
    if (logs) logs.learning_rate = readRate(SCHEDULER, this.trained.optimizer);
  }
}

const PLATEAU = 'ReduceLROnPlateau';

/** Arguments of {@link ReduceLROnPlateau}. */
export interface ReduceLROnPlateauArgs extends MonitorArgs {
  /** The rate is multiplied by this, below 1. Defaults to 0.1. */
  factor?: number;
  /** Number of epochs without an improvement after which the rate is reduced. Defaults to 10. */
  patience?: number;
  /** 1 prints a line when the rate is reduced. Defaults to 0. */
  verbose?: 0 | 1;
  /** A smaller change does not count as an improvement. Defaults to 1e-4. */
  minDelta?: number;
  /** Number of epochs after a reduction that are not counted. Defaults to 0. */
  cooldown?: number;
  /** Lower limit of the rate. Defaults to 0. */
  minLr?: number;
}

/**
 * Reduces the learning rate when a number no longer improves, as `keras.callbacks.ReduceLROnPlateau`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class ReduceLROnPlateau extends RateCallback {
  private readonly args: Required<ReduceLROnPlateauArgs>;
  private monitor: Monitor;
  private wait = 0;
  private cooling = 0;

  constructor(args: ReduceLROnPlateauArgs = {}) {
    super();
    const defaults = {
      ...({monitor: 'val_loss', factor: 0.1, patience: 10, verbose: 0, mode: 'auto'} as const),
      ...{minDelta: 1e-4, cooldown: 0, minLr: 0},
    };
    checkArguments(PLATEAU, args, Object.keys(defaults));
    this.args = {...defaults, ...args};
    const {factor, patience, verbose, cooldown, minLr, minDelta} = this.args;
    if (typeof factor !== 'number' || !(factor > 0 && factor < 1)) {
      throw new ValueError(`${PLATEAU} expected \`factor\` above 0 and below 1. Received: factor=${show(factor)}.`);
    }
    if (typeof minLr !== 'number' || !(minLr >= 0)) {
      throw new ValueError(`${PLATEAU} expected \`minLr\` as a number of at least 0. Received: minLr=${show(minLr)}.`);
    }
    checkCount(PLATEAU, 'patience', patience);
    checkCount(PLATEAU, 'cooldown', cooldown);
    checkVerbose(PLATEAU, verbose);
    this.monitor = new Monitor(PLATEAU, this.args, minDelta);
  }

  override async onTrainBegin(): Promise<void> {
    this.monitor = new Monitor(PLATEAU, this.args, this.args.minDelta);
    this.wait = this.cooling = 0;
  }

  override async onEpochEnd(epoch: number, logs?: Record<string, unknown>): Promise<void> {
    const {monitor} = this;
    const {patience, cooldown} = this.args;
    const rate = readRate(PLATEAU, this.trained.optimizer);
    if (logs) logs.learning_rate = rate;
    const current = monitor.read(PLATEAU, await numbersOf(logs));
    if (current === undefined) return;
    if (this.cooling > 0) {
      this.cooling -= 1;
      this.wait = 0;
    }
    if (monitor.improves(current)) {
      monitor.best = current;
      this.wait = 0;
      return;
    }
    if (this.cooling > 0) return;
    this.wait += 1;
    if (this.wait >= patience && this.reduce(epoch, rate)) {
      this.cooling = cooldown;
      this.wait = 0;
    }
  }

  private reduce(epoch: number, rate: number): boolean {
    const {factor, minLr, verbose} = this.args;
    if (rate <= minLr) return false;
    const reduced = Math.max(rate * factor, minLr);
    writeRate(this.trained.optimizer!, reduced);
    if (verbose) console.info(`Epoch ${epoch + 1}: learning rate reduced to ${reduced}`);
    return true;
  }
}

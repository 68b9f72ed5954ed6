/** Stops training when a number no longer improves. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument, checkArguments} from '../../base/checks';
import {show, ValueError} from '../../base/errors';
import {checkCount, checkVerbose, Monitor, type MonitorArgs} from './monitor';
import {ModelCallback, numbersOf} from './rate_callback';

const OWNER = 'EarlyStopping';

/** Arguments of {@link EarlyStopping}. */
export interface EarlyStoppingArgs extends MonitorArgs {
  /** A smaller change does not count as an improvement. Defaults to 0. */
  minDelta?: number;
  /** Number of epochs without an improvement after which training ends. Defaults to 0. */
  patience?: number;
  /** 1 prints a line when training ends early. Defaults to 0. */
  verbose?: 0 | 1;
  /** Epochs that are not better than this count as no improvement. Null, the default: none. */
  baseline?: number | null;
  /** Whether the model gets the weights of its best epoch in the end. Defaults to false. */
  restoreBestWeights?: boolean;
  /** Epochs before this one, counted from 0, are not watched. Defaults to 0. */
  startFromEpoch?: number;
}

/**
 * Stops training when a number no longer improves, as `keras.callbacks.EarlyStopping`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class EarlyStopping extends ModelCallback {
  private readonly args: Required<EarlyStoppingArgs>;
  private monitor: Monitor;
  private wait = 0;
  private stoppedEpoch = 0;
  private bestEpoch = 0;
  private bestWeights: [weight: tf.LayerVariable, values: Float32Array][] | null = null;

  constructor(args: EarlyStoppingArgs = {}) {
    super();
    const defaults = {
      ...({monitor: 'val_loss', minDelta: 0, patience: 0, verbose: 0, mode: 'auto', baseline: null} as const),
      ...{restoreBestWeights: false, startFromEpoch: 0},
    };
    checkArguments(OWNER, args, Object.keys(defaults));
    this.args = {...defaults, ...args};
    const {patience, verbose, baseline, restoreBestWeights, startFromEpoch, minDelta} = this.args;
    checkCount(OWNER, 'patience', patience);
    checkCount(OWNER, 'startFromEpoch', startFromEpoch);
    checkVerbose(OWNER, verbose);
    checkArgument(OWNER, 'restoreBestWeights', restoreBestWeights, 'flag');
    if (baseline !== null && !Number.isFinite(baseline)) {
      throw new ValueError(`${OWNER} expected \`baseline\` as a number or null. Received: baseline=${show(baseline)}.`);
    }
    this.monitor = new Monitor(OWNER, this.args, minDelta);
  }

  override async onTrainBegin(): Promise<void> {
    this.monitor = new Monitor(OWNER, this.args, this.args.minDelta);
    this.wait = this.stoppedEpoch = this.bestEpoch = 0;
    this.bestWeights = null;
  }

  override async onEpochEnd(epoch: number, logs?: Record<string, unknown>): Promise<void> {
    const {patience, baseline, restoreBestWeights, startFromEpoch} = this.args;
    const {monitor} = this;
    const current = monitor.read(OWNER, await numbersOf(logs));
    if (current === undefined || epoch < startFromEpoch) return;
    if (restoreBestWeights && !this.bestWeights) await this.keepWeights(epoch);
    this.wait += 1;
    if (monitor.improves(current)) {
      monitor.best = current;
      this.bestEpoch = epoch;
      if (restoreBestWeights) await this.keepWeights(epoch);
      if (baseline === null || monitor.improves(current, baseline)) this.wait = 0;
      return;
    }
    if (this.wait >= patience && epoch > 0) {
      this.stoppedEpoch = epoch;
      this.trained.stopTraining = true;
    }
  }

  override async onTrainEnd(): Promise<void> {
    const {verbose} = this.args;
    if (verbose && this.stoppedEpoch > 0) console.info(`Epoch ${this.stoppedEpoch + 1}: early stopping`);
    if (!this.bestWeights) return;
    if (verbose) console.info(`Restoring the weights of the best epoch: ${this.bestEpoch + 1}.`);
    for (const [weight, values] of this.bestWeights) {
      tf.tidy(() => {
        weight.write(tf.tensor(values, weight.shape as number[]));
      });
    }
    this.bestWeights = null;
  }

  /** Copies the trained weights to memory of the host; the others do not change. */
  private async keepWeights(epoch: number): Promise<void> {
    const {trainableWeights} = this.trained;
    const values = await Promise.all(trainableWeights.map(weight => weight.read().data()));
    this.bestEpoch = epoch;
    this.bestWeights = trainableWeights.map((weight, i) => [weight, (values[i] as Float32Array).slice()]);
  }
}

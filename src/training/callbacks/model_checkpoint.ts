/** Saves a model while it is trained. */
import {checkArgument, checkArguments} from '../../base/checks';
import {describeValue, show, ValueError} from '../../base/errors';
import {checkVerbose, Monitor, type MonitorArgs} from './monitor';
import {ModelCallback, numbersOf} from './rate_callback';

const OWNER = 'ModelCheckpoint';

/** The logs of an epoch with its number, from 1; of a batch also with `batch`, from 1. */
export type CheckpointLogs = Record<string, number>;

/** Where to save: a path, or a function that returns what `saveWeights` or `saveToPreset` takes. */
export type CheckpointTarget = string | ((logs: CheckpointLogs) => unknown);

/** Arguments of {@link ModelCheckpoint}. */
export interface ModelCheckpointArgs extends MonitorArgs {
  /** 1 prints a line for each save. Defaults to 0. */
  verbose?: 0 | 1;
  /** Whether to save only when the watched number is better than ever before. Defaults to false. */
  saveBestOnly?: boolean;
  /** Whether to save a `.weights.h5` file instead of a preset. Defaults to false. */
  saveWeightsOnly?: boolean;
  /** "epoch", the default, or a number of batches between two saves. */
  saveFreq?: 'epoch' | number;
  /** A value that the first save has to be better than, with `saveBestOnly`. Null, the default: none. */
  initialValueThreshold?: number | null;
}

/** `{epoch}`, `{epoch:02d}` and `{val_loss:.2f}`, as Python formats them. */
function formatted(template: string, values: CheckpointLogs): string {
  return template.replace(
    /\{(\w+)(?::(0?)(\d*)(?:\.(\d+))?([df]?))?\}/g,
    (_, name: string, zero, width, digits, kind) => {
      const value = values[name];
      if (value === undefined) {
        throw new ValueError(
          `${OWNER} expected names of logs in its path "${template}". Received: "${name}"; there are ` +
            `${Object.keys(values).join(', ')}.`,
        );
      }
      const text = kind === 'f' ? value.toFixed(digits === undefined ? 6 : Number(digits)) : String(value);
      return width ? text.padStart(Number(width), zero ? '0' : ' ') : text;
    },
  );
}

/**
 * Saves the model after each epoch, or only when a number improves, as `keras.callbacks.ModelCheckpoint`: as a preset, or
 * with `saveWeightsOnly` as a `.weights.h5` file. A path may have names of logs in braces: `'{epoch:02d}-{val_loss:.2f}'`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class ModelCheckpoint extends ModelCallback {
  private readonly args: Required<ModelCheckpointArgs>;
  private readonly monitor: Monitor;
  private epoch = 0;
  private seen = 0;

  constructor(
    private readonly filepath: CheckpointTarget,
    args: ModelCheckpointArgs = {},
  ) {
    super();
    const defaults = {
      ...({monitor: 'val_loss', verbose: 0, mode: 'auto', saveFreq: 'epoch'} as const),
      ...{saveBestOnly: false, saveWeightsOnly: false, initialValueThreshold: null},
    };
    checkArguments(OWNER, args, Object.keys(defaults));
    this.args = {...defaults, ...args};
    const {verbose, saveBestOnly, saveWeightsOnly, saveFreq, initialValueThreshold: threshold} = this.args;
    if (typeof filepath !== 'function' && (typeof filepath !== 'string' || filepath === '')) {
      throw new ValueError(
        `${OWNER} expected a path, or a function of the logs. Received: ${describeValue(filepath)}.`,
      );
    }
    checkVerbose(OWNER, verbose);
    checkArgument(OWNER, 'saveBestOnly', saveBestOnly, 'flag');
    checkArgument(OWNER, 'saveWeightsOnly', saveWeightsOnly, 'flag');
    if (saveFreq !== 'epoch' && !(Number.isSafeInteger(saveFreq) && saveFreq > 0)) {
      throw new ValueError(
        `${OWNER} expected \`saveFreq\` as "epoch" or a number of batches. Received: ${show(saveFreq)}.`,
      );
    }
    if (threshold !== null && !Number.isFinite(threshold)) {
      throw new ValueError(
        `${OWNER} expected \`initialValueThreshold\` as a number or null. Received: ${show(threshold)}.`,
      );
    }
    if (typeof filepath === 'string' && saveWeightsOnly !== filepath.endsWith('.weights.h5')) {
      throw new ValueError(
        saveWeightsOnly
          ? `${OWNER} expected a path that ends in \`.weights.h5\` with \`saveWeightsOnly\`. Received: ${filepath}.`
          : `${OWNER} saves presets, which are folders. Received: ${filepath}. Pass {saveWeightsOnly: true} for a file.`,
      );
    }
    this.monitor = new Monitor(OWNER, saveBestOnly ? this.args : {}, 0);
    this.monitor.best = threshold;
  }

  override async onEpochBegin(epoch: number): Promise<void> {
    this.epoch = epoch;
  }

  override async onBatchEnd(batch: number, logs?: Record<string, unknown>): Promise<void> {
    const {saveFreq} = this.args;
    if (saveFreq === 'epoch') return;
    this.seen += 1;
    if (this.seen < saveFreq) return;
    this.seen = 0;
    await this.save({...(await numbersOf(logs)), epoch: this.epoch + 1, batch: batch + 1});
  }

  override async onEpochEnd(epoch: number, logs?: Record<string, unknown>): Promise<void> {
    if (this.args.saveFreq === 'epoch') await this.save({...(await numbersOf(logs)), epoch: epoch + 1});
  }

  private async save(logs: CheckpointLogs): Promise<void> {
    const {saveBestOnly, saveWeightsOnly, verbose} = this.args;
    const {monitor, filepath} = this;
    if (saveBestOnly) {
      const current = monitor.read(OWNER, logs);
      if (current !== undefined) {
        if (!monitor.improves(current)) return;
        monitor.best = current;
      }
    }
    const target = typeof filepath === 'string' ? formatted(filepath, logs) : filepath(logs);
    const method = saveWeightsOnly ? 'saveWeights' : 'saveToPreset';
    const save = this.trained[method]?.bind(this.trained);
    if (!save)
      throw new ValueError(`${OWNER} expected a model with \`${method}\`. Received: ${describeValue(this.model)}.`);
    await save(target as string);
    if (verbose) console.info(`Epoch ${logs.epoch}: saved ${describeValue(target)}`);
  }
}

/** Learning rate schedules with the names and results of `keras.optimizers.schedules`. */
import {checkArgument, checkArguments, checkPositiveInteger} from '../../base/checks';
import {show, ValueError} from '../../base/errors';

/** A learning rate for each step, like `keras.optimizers.schedules.LearningRateSchedule`. */
export abstract class LearningRateSchedule {
  /** The rate of a step, counted from 0. With gradient accumulation, every batch is a step, as in Keras. */
  abstract call(step: number): number;
  abstract getConfig(): Record<string, unknown>;
}

/** @throws ValueError unless the value is a finite number of at least 0. */
function checkRate(owner: string, name: string, value: unknown): void {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return;
  throw new ValueError(`${owner} expected \`${name}\` as a number of at least 0. Received: ${name}=${show(value)}.`);
}

export interface CosineDecayArgs {
  /** The rate at the beginning: of the warm-up if there is one, otherwise of the decay. */
  initialLearningRate: number;
  /** Steps of the decay, not counting the warm-up. */
  decaySteps: number;
  /** The final rate, as a fraction of the highest rate. Defaults to 0. */
  alpha?: number;
  /** The rate at the end of the warm-up, which is linear. Null, the default, means no warm-up. */
  warmupTarget?: number | null;
  /** Steps of the warm-up. Defaults to 0. */
  warmupSteps?: number;
}

/**
 * Decays along half a cosine from the highest rate to `alpha` times that rate, after an optional warm-up: Loshchilov
 * and Hutter (2016), https://arxiv.org/abs/1608.03983. Like `keras.optimizers.schedules.CosineDecay`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class CosineDecay extends LearningRateSchedule {
  private readonly config: Required<CosineDecayArgs>;

  constructor(args: CosineDecayArgs) {
    super();
    const owner = 'CosineDecay';
    checkArguments(owner, args, ['initialLearningRate', 'decaySteps', 'alpha', 'warmupTarget', 'warmupSteps']);
    const {initialLearningRate, decaySteps, alpha = 0, warmupTarget = null, warmupSteps = 0} = args;
    checkRate(owner, 'initialLearningRate', initialLearningRate);
    checkPositiveInteger(owner, 'decaySteps', decaySteps);
    checkRate(owner, 'alpha', alpha);
    if (warmupTarget !== null) checkRate(owner, 'warmupTarget', warmupTarget);
    if (warmupSteps !== 0) checkPositiveInteger(owner, 'warmupSteps', warmupSteps);
    if (warmupSteps > 0 && warmupTarget === null) {
      throw new ValueError(`CosineDecay expected \`warmupTarget\` with \`warmupSteps\`. Received: ${show(args)}.`);
    }
    this.config = {initialLearningRate, decaySteps, alpha, warmupTarget, warmupSteps};
  }

  override call(step: number): number {
    const {initialLearningRate, decaySteps, alpha, warmupTarget, warmupSteps} = this.config;
    if (warmupTarget !== null && step < warmupSteps) {
      return initialLearningRate + (warmupTarget - initialLearningRate) * (step / warmupSteps);
    }
    const highest = warmupTarget ?? initialLearningRate;
    const done = Math.min(step - (warmupTarget === null ? 0 : warmupSteps), decaySteps) / decaySteps;
    return highest * ((1 - alpha) * 0.5 * (1 + Math.cos(Math.PI * done)) + alpha);
  }

  override getConfig(): Record<string, unknown> {
    return {...this.config};
  }
}

export interface PolynomialDecayArgs {
  initialLearningRate: number;
  decaySteps: number;
  /** The rate at the end. Defaults to 0.0001. */
  endLearningRate?: number;
  /** Exponent of the polynomial. 1, the default, gives a straight line. */
  power?: number;
  /**
   * Whether to start again after `decaySteps`, decaying over a longer period each time. Defaults to false.
   */
  cycle?: boolean;
}

/**
 * Decays from one rate to another along a polynomial, by default a straight line. Like
 * `keras.optimizers.schedules.PolynomialDecay`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class PolynomialDecay extends LearningRateSchedule {
  private readonly config: Required<PolynomialDecayArgs>;

  constructor(args: PolynomialDecayArgs) {
    super();
    const owner = 'PolynomialDecay';
    checkArguments(owner, args, ['initialLearningRate', 'decaySteps', 'endLearningRate', 'power', 'cycle']);
    const {initialLearningRate, decaySteps, endLearningRate = 0.0001, power = 1, cycle = false} = args;
    checkRate(owner, 'initialLearningRate', initialLearningRate);
    checkPositiveInteger(owner, 'decaySteps', decaySteps);
    checkRate(owner, 'endLearningRate', endLearningRate);
    checkArgument(owner, 'power', power, 'positive');
    checkArgument(owner, 'cycle', cycle, 'flag');
    this.config = {initialLearningRate, decaySteps, endLearningRate, power, cycle};
  }

  override call(step: number): number {
    const {initialLearningRate, decaySteps, endLearningRate, power, cycle} = this.config;
    const steps = cycle ? decaySteps * Math.max(1, Math.ceil(step / decaySteps)) : decaySteps;
    const left = 1 - Math.min(step, steps) / steps;
    return (initialLearningRate - endLearningRate) * left ** power + endLearningRate;
  }

  override getConfig(): Record<string, unknown> {
    return {...this.config};
  }
}

/**
 * The base class of optimizers, like `keras.optimizers.Optimizer`: learning rate, weight decay, clipping, gradient
 * accumulation and state.
 */
import * as tf from '@tensorflow/tfjs';
import {checkArgument, checkArguments} from '../../base/checks';
import {show, ValueError} from '../../base/errors';
import {LearningRateSchedule} from './schedules';

export interface OptimizerArgs {
  /** A number or a schedule. */
  learningRate?: number | LearningRateSchedule;
  /** Each step multiplies every variable by 1 − this number × the learning rate. Null, the default, means no decay. */
  weightDecay?: number | null;
  /** Upper limit of the norm of each variable's gradient. Null, the default, means no limit. */
  clipNorm?: number | null;
  /** Upper limit of the absolute value of each element of a gradient. Null, the default, means no limit. */
  clipValue?: number | null;
  /** Upper limit of the norm of all gradients together. Null, the default, means no limit. */
  globalClipNorm?: number | null;
  /** Number of batches, at least 2, to average gradients over before variables change. Null, the default, means 1. */
  gradientAccumulationSteps?: number | null;
}
const KNOWN = [
  'learningRate',
  'weightDecay',
  'clipNorm',
  'clipValue',
  'globalClipNorm',
  'gradientAccumulationSteps',
] as const;

type Gradients = tf.NamedTensorMap | {name: string; tensor: tf.Tensor}[];

/** Sum of squares of all elements. */
const squares = (x: tf.Tensor): tf.Tensor => tf.sum(tf.square(x));

/**
 * A tfjs optimizer that gives the same results as Keras. It keeps tensors for each variable ("slots"), in the order of
 * the variables in the first step, and expects the same variables in every step.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export abstract class Optimizer extends tf.Optimizer {
  readonly weightDecay: number | null;
  readonly clipNorm: number | null;
  readonly clipValue: number | null;
  readonly globalClipNorm: number | null;
  readonly gradientAccumulationSteps: number | null;
  private rate: number | LearningRateSchedule = 0;
  private names: readonly string[] | null = null;
  private slots: Record<string, tf.Variable[]> = {};
  private undecayed: readonly string[] = [];

  /** @param owner class name, for errors. @param known names of the arguments that only this optimizer has. */
  constructor(owner: string, args: OptimizerArgs, known: readonly string[], defaultRate: number) {
    super();
    checkArguments(owner, args, [...KNOWN, ...known]);
    const {learningRate = defaultRate} = args;
    if (learningRate instanceof LearningRateSchedule) this.rate = learningRate;
    else this.learningRate = learningRate;
    this.weightDecay = args.weightDecay ?? null;
    this.clipNorm = args.clipNorm ?? null;
    this.clipValue = args.clipValue ?? null;
    this.globalClipNorm = args.globalClipNorm ?? null;
    this.gradientAccumulationSteps = args.gradientAccumulationSteps ?? null;
    const {weightDecay, clipNorm, clipValue, globalClipNorm, gradientAccumulationSteps: steps} = this;
    const clips = {clipNorm, clipValue, globalClipNorm};
    for (const [name, value] of Object.entries(clips)) checkArgument(owner, name, value, 'positiveOrNull');
    if (Object.values(clips).filter(value => value !== null).length > 1) {
      throw new ValueError(
        `${owner} expected at most one of \`clipNorm\`, \`clipValue\` and \`globalClipNorm\`. Received: ${show(clips)}.`,
      );
    }
    if (weightDecay !== null && !(Number.isFinite(weightDecay) && weightDecay >= 0)) {
      throw new ValueError(
        `${owner} expected \`weightDecay\` to be null or at least 0. Received: weightDecay=${show(weightDecay)}.`,
      );
    }
    if (steps !== null && !(Number.isSafeInteger(steps) && steps >= 2)) {
      throw new ValueError(
        `${owner} expected \`gradientAccumulationSteps\` to be null or a whole number of at least 2. ` +
          `Received: gradientAccumulationSteps=${show(steps)}.`,
      );
    }
  }

  /** Names of the tensors kept for each variable. */
  protected abstract readonly slotNames: readonly string[];

  /**
   * Updates one variable.
   *
   * @param slots slots of the variable, by name. @param update number of this update, starting at 1.
   */
  protected abstract updateStep(
    gradient: tf.Tensor,
    variable: tf.Variable,
    slots: Record<string, tf.Variable>,
    learningRate: number,
    update: number,
  ): void;

  /** The learning rate of the next step. It can be set unless it follows a schedule. */
  get learningRate(): number {
    return this.rate instanceof LearningRateSchedule ? this.rate.call(this.iterations) : this.rate;
  }
  set learningRate(value: number) {
    if (this.rate instanceof LearningRateSchedule) {
      throw new ValueError('The learning rate of this optimizer follows a schedule, so it cannot be set.');
    }
    if (typeof value !== 'number' || !Number.isFinite(value) || value < 0) {
      throw new ValueError(
        'An optimizer expected `learningRate` as a number of at least 0 or as a LearningRateSchedule. ' +
          `Received: learningRate=${show(value)}.`,
      );
    }
    this.rate = value;
  }

  /**
   * Excludes variables from weight decay.
   *
   * @param variableNames parts of names, such as "norm/scale".
   * @throws ValueError after the first step.
   */
  excludeFromWeightDecay(variableNames: readonly string[]): void {
    if (this.names !== null) {
      throw new ValueError('`excludeFromWeightDecay()` can only be called before the optimizer is first used.');
    }
    this.undecayed = [...variableNames];
  }

  /**
   * Applies one step. `gradients` are keyed by the names of their variables.
   *
   * @throws ValueError if the variables differ from those of the first step.
   */
  override applyGradients(gradients: Gradients): void {
    const entries = Array.isArray(gradients)
      ? gradients
      : Object.entries(gradients).map(([name, tensor]) => ({name, tensor}));
    const registered = tf.engine().registeredVariables;
    tf.tidy(() => {
      const variables = entries.map(({name}) => registered[name]!);
      this.build(
        entries.map(({name}) => name),
        variables,
      );
      const mean = this.accumulated(entries.map(({tensor}) => tensor));
      if (mean) this.update(variables, mean);
    });
    this.incrementIterations();
  }

  private build(names: readonly string[], variables: readonly tf.Variable[]): void {
    const all = [...this.slotNames, ...(this.gradientAccumulationSteps === null ? [] : ['gradientAccumulator'])];
    if (this.names === null) {
      for (const slot of all) this.slots[slot] ??= variables.map(x => tf.zerosLike(x).variable(false));
      this.names = names;
    }
    const fits =
      this.names.join() === names.join() &&
      all.every(slot => this.slots[slot]?.every((x, i) => x.shape.join() === variables[i]?.shape.join()));
    if (fits) return;
    throw new ValueError(
      `Expected gradients of the ${this.names.length} variables of this optimizer's first step. Received: ` +
        `${names.length}, "${names[0]}" first. Create a new optimizer for other variables and call \`compile\` again.`,
    );
  }

  /**
   * Adds the gradients of a batch. Returns the mean gradients after the last batch of an accumulation, and null before
   * that.
   */
  private accumulated(gradients: tf.Tensor[]): tf.Tensor[] | null {
    const steps = this.gradientAccumulationSteps;
    if (steps === null) return gradients;
    const accumulators = this.slots.gradientAccumulator!;
    const sums = gradients.map((gradient, i) => tf.add(gradient, accumulators[i]!));
    const last = (this.iterations + 1) % steps === 0;
    accumulators.forEach((x, i) => x.assign(last ? tf.zerosLike(x) : sums[i]!));
    return last ? sums.map(sum => tf.div(sum, steps)) : null;
  }

  private update(variables: readonly tf.Variable[], gradients: tf.Tensor[]): void {
    const clipped = this.clipped(gradients);
    const rate = this.learningRate;
    const update = Math.floor(this.iterations / (this.gradientAccumulationSteps ?? 1)) + 1;
    const {weightDecay} = this;
    variables.forEach((variable, i) => {
      tf.tidy(() => {
        if (weightDecay !== null && !this.undecayed.some(part => variable.name.includes(part))) {
          variable.assign(tf.sub(variable, tf.mul(variable, weightDecay * rate)));
        }
        const slots = Object.fromEntries(this.slotNames.map(name => [name, this.slots[name]![i]!]));
        this.updateStep(clipped[i]!, variable, slots, rate, update);
      });
    });
  }

  private clipped(gradients: tf.Tensor[]): tf.Tensor[] {
    const {clipNorm, clipValue, globalClipNorm} = this;
    if (clipNorm !== null) {
      const clip = (x: tf.Tensor) => tf.div(tf.mul(x, clipNorm), tf.maximum(tf.sqrt(squares(x)), clipNorm));
      return gradients.map(x => tf.tidy(() => clip(x)));
    }
    if (globalClipNorm !== null) {
      const norm = tf.sqrt(tf.addN(gradients.map(x => tf.tidy(() => squares(x)))));
      const scale = tf.mul(globalClipNorm, tf.minimum(tf.div(1, norm), 1 / globalClipNorm));
      return gradients.map(x => tf.mul(x, scale));
    }
    return clipValue === null ? gradients : gradients.map(x => tf.clipByValue(x, -clipValue, clipValue));
  }

  // === State: a run that restores it continues with the same numbers ===

  /** The step count, then the slots of all variables. The caller disposes the tensors. */
  override async getWeights(): Promise<{name: string; tensor: tf.Tensor}[]> {
    const named = Object.entries(this.slots).flatMap(([slot, variables]) =>
      variables.map((variable, i) => ({name: `${this.names?.[i] ?? i}/${slot}`, tensor: variable.clone()})),
    );
    return [await this.saveIterations(), ...named];
  }

  /** @throws ValueError on the state of an optimizer with different slots. */
  override async setWeights(weightValues: {name: string; tensor: tf.Tensor}[]): Promise<void> {
    const values = await this.extractIterations(weightValues);
    const slots: Record<string, tf.Tensor[]> = {};
    for (const {name, tensor} of values) (slots[name.slice(name.lastIndexOf('/') + 1)] ??= []).push(tensor);
    const expected = [...this.slotNames, ...(this.gradientAccumulationSteps === null ? [] : ['gradientAccumulator'])];
    const received = Object.keys(slots);
    if (received.length > 0 && received.join() !== expected.join()) {
      throw new ValueError(
        `Expected the state of an optimizer that keeps ${expected.join(', ') || 'nothing'}. Received one that keeps ` +
          `${received.join(', ')}. Compile with the optimizer that saved the state.`,
      );
    }
    this.disposeSlots();
    for (const [slot, tensors] of Object.entries(slots)) {
      this.slots[slot] = tf.tidy(() => tensors.map(x => x.clone().variable(false)));
    }
  }

  private disposeSlots(): void {
    tf.dispose(Object.values(this.slots));
    this.slots = {};
    this.names = null;
  }

  override dispose(): void {
    this.disposeSlots();
  }

  override getConfig(): tf.serialization.ConfigDict {
    const {weightDecay, clipNorm, clipValue, globalClipNorm, gradientAccumulationSteps} = this;
    const learningRate = this.rate instanceof LearningRateSchedule ? this.rate.getConfig() : this.rate;
    return {
      learningRate: learningRate as tf.serialization.ConfigDictValue,
      ...{weightDecay, clipNorm, clipValue, globalClipNorm, gradientAccumulationSteps},
    };
  }
}

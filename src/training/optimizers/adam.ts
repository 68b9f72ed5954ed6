/** The Adam and AdamW optimizers. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../../base/checks';
import {show, ValueError} from '../../base/errors';
import {adamStep} from '../../ops/adam_step';
import {Optimizer, type OptimizerArgs} from './optimizer';

export interface AdamArgs extends OptimizerArgs {
  /** Decay rate of the running mean of gradients. Defaults to 0.9. */
  beta1?: number;
  /** Decay rate of the running mean of squared gradients. Defaults to 0.999. */
  beta2?: number;
  /** Added to the divisor, for numerical stability. Defaults to 1e-7. */
  epsilon?: number;
  /**
   * Whether to divide by the largest running mean of squares so far: https://openreview.net/pdf?id=ryQu7f-RZ. Defaults
   * to false.
   */
  amsgrad?: boolean;
}

/**
 * Adam by Kingma and Ba, https://arxiv.org/abs/1412.6980, like `keras.optimizers.Adam`. The learning rate defaults to
 * 0.001. `tf.train.adam` gives different results, because it adds epsilon in a different place.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Adam extends Optimizer {
  /** @nocollapse */
  static className: string = 'Adam';
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly amsgrad: boolean;
  protected readonly slotNames: readonly string[];

  constructor(args: AdamArgs = {}, owner = 'Adam') {
    super(owner, args, ['beta1', 'beta2', 'epsilon', 'amsgrad'], 0.001);
    const {beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7, amsgrad = false} = args;
    checkArgument(owner, 'beta1', beta1, 'rate');
    checkArgument(owner, 'beta2', beta2, 'rate');
    checkArgument(owner, 'epsilon', epsilon, 'positive');
    checkArgument(owner, 'amsgrad', amsgrad, 'flag');
    this.beta1 = beta1;
    this.beta2 = beta2;
    this.epsilon = epsilon;
    this.amsgrad = amsgrad;
    this.slotNames = amsgrad ? ['momentum', 'velocity', 'velocityHat'] : ['momentum', 'velocity'];
  }

  protected override updateStep(
    gradient: tf.Tensor,
    variable: tf.Variable,
    {momentum: m, velocity: v, velocityHat}: Record<string, tf.Variable>,
    learningRate: number,
    update: number,
  ): void {
    const {beta1, beta2, epsilon} = this;
    const alpha = (learningRate * Math.sqrt(1 - beta2 ** update)) / (1 - beta1 ** update);
    const inputs = {variable, gradient, momentum: m!, velocity: v!};
    const [next, momentum, velocity] = adamStep(inputs, {beta1, beta2, epsilon, alpha});
    m!.assign(momentum);
    v!.assign(velocity);
    if (velocityHat) {
      // The largest velocity so far is the divisor, instead of the current one.
      velocityHat.assign(tf.maximum(velocityHat, velocity));
      variable.assign(tf.sub(variable, tf.div(tf.mul(momentum, alpha), tf.add(tf.sqrt(velocityHat), epsilon))));
    } else {
      variable.assign(next);
    }
  }

  override getConfig(): tf.serialization.ConfigDict {
    const {beta1, beta2, epsilon, amsgrad} = this;
    return {...super.getConfig(), beta1, beta2, epsilon, amsgrad};
  }
}

/**
 * Adam with decoupled weight decay by Loshchilov and Hutter, https://arxiv.org/abs/1711.05101, like
 * `keras.optimizers.AdamW`. `weightDecay` defaults to 0.004.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class AdamW extends Adam {
  /** @nocollapse */
  static override className = 'AdamW';

  constructor(args: AdamArgs = {}) {
    super({weightDecay: 0.004, ...args}, 'AdamW');
    if (this.weightDecay === null) {
      throw new ValueError(`AdamW expected \`weightDecay\` as a number. Received: weightDecay=${show(null)}.`);
    }
  }
}

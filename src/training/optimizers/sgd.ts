/** The SGD optimizer. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../../base/checks';
import {show, ValueError} from '../../base/errors';
import {Optimizer, type OptimizerArgs} from './optimizer';

export interface SGDArgs extends OptimizerArgs {
  /** Fraction of the previous update to add to the next one, in [0, 1]. Defaults to 0. */
  momentum?: number;
  /** Whether to use Nesterov momentum. Defaults to false. */
  nesterov?: boolean;
}

/**
 * Gradient descent with optional momentum, like `keras.optimizers.SGD`. The learning rate defaults to 0.01.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class SGD extends Optimizer {
  /** @nocollapse */
  static className = 'SGD';
  readonly momentum: number;
  readonly nesterov: boolean;
  protected readonly slotNames: readonly string[];

  constructor(args: SGDArgs = {}) {
    super('SGD', args, ['momentum', 'nesterov'], 0.01);
    const {momentum = 0, nesterov = false} = args;
    if (typeof momentum !== 'number' || !(momentum >= 0 && momentum <= 1)) {
      throw new ValueError(`SGD expected \`momentum\` in [0, 1]. Received: momentum=${show(momentum)}.`);
    }
    checkArgument('SGD', 'nesterov', nesterov, 'flag');
    if (nesterov && momentum === 0) {
      throw new ValueError('SGD expected `momentum` above 0 with `nesterov`. Received: momentum=0.');
    }
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.slotNames = momentum > 0 ? ['momentum'] : [];
  }

  protected override updateStep(
    gradient: tf.Tensor,
    variable: tf.Variable,
    {momentum: m}: Record<string, tf.Variable>,
    learningRate: number,
  ): void {
    const change = tf.mul(gradient, learningRate);
    if (!m) {
      variable.assign(tf.sub(variable, change));
      return;
    }
    m.assign(tf.sub(tf.mul(m, this.momentum), change));
    variable.assign(tf.add(variable, this.nesterov ? tf.sub(tf.mul(m, this.momentum), change) : m));
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), momentum: this.momentum, nesterov: this.nesterov};
  }
}

/** The factor between the embedding and the first block of a backbone. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../../../base/checks';
import {
  checkedArgs,
  firstTensor,
  Layer,
  type LayerArgs,
  policyConfig,
  registerBesideTfjs,
  type TensorOrTensors,
} from '../../../layers/layer';

export interface MultiplyArgs extends LayerArgs {
  /** A positive number. */
  factor: number;
}

/** x · factor. KerasHub's graph has a `Multiply` with a constant there; the `Multiply` of tfjs takes two inputs. */
export class Multiply extends Layer {
  /** @nocollapse */
  static className = 'Multiply';
  readonly factor: number;

  constructor(args: MultiplyArgs) {
    super(checkedArgs('Multiply', args, ['factor']));
    checkArgument('Multiply', 'factor', args.factor, 'positive');
    this.factor = args.factor;
  }

  override call(inputs: TensorOrTensors): tf.Tensor {
    return tf.mul(firstTensor(inputs), this.factor);
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...policyConfig(this), factor: this.factor};
  }
}
registerBesideTfjs(Multiply);

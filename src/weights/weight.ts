/** A layer variable that is declared first and filled later. */
import * as tf from '@tensorflow/tfjs';
import {checkWeightInUse, isDisposed} from './in_use';
import {beginFloat32} from './float32_target';
import {initialValues} from './initial_values';
import {type Initializer} from './initializers';
import {PIECE, type ValueStream} from './value_stream';

/**
 * A tensor with a shape and a type but no memory. tfjs accepts `null` values for this on every backend; memory is
 * allocated when something is assigned. Such a tensor must not be read, so `Weight.read` fills it first.
 */
export function hollow(shape: number[], dtype: tf.DataType): tf.Tensor {
  const backend = tf.backend() as tf.KernelBackend & {firstUse?: boolean};
  // On its first use in Node, tfjs' CPU backend recommends another package, which would not help here.
  if (backend.firstUse) backend.firstUse = false;
  const dataId = backend.write(null as never, shape, dtype);
  return tf.engine().makeTensorFromTensorInfo({dataId, shape, dtype});
}

/**
 * A float32 variable whose initializer runs when it is first read, and never if a file fills it before that. A model of
 * 27 billion parameters is therefore built, counted and summarized in milliseconds.
 */
export class Weight extends tf.LayerVariable {
  /** As in `PackedWeight`, for when the values are packed. */
  energies?: Float32Array;
  /** Narrowed, because tfjs' type allows unknown sizes, which a weight never has. */
  declare readonly shape: number[];
  private pending?: Initializer;

  constructor(shape: number[], name: string, initializer: Initializer, trainable = true) {
    const value = hollow(shape, 'float32');
    super(value, 'float32', name, trainable);
    value.dispose();
    this.pending = initializer;
  }

  /** Size in bytes, as stored. */
  get byteLength(): number {
    return 4 * tf.util.sizeFromShape(this.shape);
  }

  /** False while the weight is only declared. */
  get filled(): boolean {
    return this.pending === undefined;
  }

  /**
   * The initializer that runs at the first read, unless the weight is filled before that; undefined once it has values.
   */
  get initializer(): Initializer | undefined {
    return this.pending;
  }

  /** @throws ValueError if it was disposed. */
  override read(): tf.Tensor {
    this.initialize();
    return super.read();
  }

  /**
   * Runs the initializer, unless the weight has values.
   *
   * @throws ValueError if it was disposed.
   */
  initialize(): void {
    checkWeightInUse(this);
    const initializer = this.pending;
    if (!initializer) return;
    tf.tidy(() => {
      this.write(this.initialValues(initializer));
    });
  }

  private initialValues(initializer: Initializer): tf.Tensor {
    const shape = this.shape;
    const fill = initialValues(initializer, shape);
    if (!fill) return initializer.apply(shape, 'float32');
    const target = beginFloat32(shape);
    fill(target.values());
    return target.finish();
  }

  override write(value: tf.Tensor): this {
    checkWeightInUse(this);
    super.write(value);
    this.pending = undefined;
    return this;
  }

  /** Frees the memory. A second call does nothing. */
  override dispose(): void {
    if (!isDisposed(this)) super.dispose();
  }

  /**
   * Fills the weight from a stream, such as that of a file, without a second copy of all values in memory.
   *
   * @param onLastRead as in `PackedWeight`; not called where values need no work after they are read.
   */
  async fill(stream: ValueStream, onLastRead?: () => void): Promise<void> {
    const size = tf.util.sizeFromShape(this.shape);
    const target = beginFloat32(this.shape);
    if (stream.isBfloat16 && target.fillFromHalves) {
      const value = await target.fillFromHalves(stream, onLastRead);
      this.write(value);
      value.dispose();
      return;
    }
    const own = target.moves ? new Float32Array(Math.min(size, PIECE)) : undefined;
    try {
      for (let start = 0; start < size; start += PIECE) {
        const end = Math.min(start + PIECE, size);
        const values = own?.subarray(0, end - start) ?? target.values().subarray(start, end);
        await stream.readFloat32(start, values);
        if (own) target.values().set(values, start);
      }
    } catch (error) {
      target.abandon();
      throw error;
    }
    tf.tidy(() => {
      this.write(target.finish());
    });
  }
}

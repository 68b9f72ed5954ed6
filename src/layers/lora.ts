/** Low-rank adaptation (LoRA, https://arxiv.org/abs/2106.09685), like Keras' `enable_lora`. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../base/checks';
import {checkKeys, ValueError} from '../base/errors';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {getInitializer, type InitializerLike} from '../weights/initializers';
import {type Adapter} from '../weights/merged_stream';
import {type AnyWeight} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {Layer, type LayerArgs} from './layer';

/** Options of {@link LoraLayer.enableLora}. */
export interface LoraOptions {
  /** The product of both matrices is scaled by alpha / rank. Defaults to the rank, which gives a scale of 1. */
  alpha?: number | null;
  /** Defaults to "he_uniform". */
  aInitializer?: InitializerLike;
  /** Defaults to "zeros": the output of the layer does not change until the matrices are trained. */
  bInitializer?: InitializerLike;
}

/** Arguments of layers that can have LoRA from the start. */
export interface LoraArgs extends LayerArgs {
  /** Enables LoRA with this rank in `build`. Null, the default, leaves LoRA off until `enableLora` is called. */
  loraRank?: number | null;
  /** See {@link LoraOptions.alpha}. */
  loraAlpha?: number | null;
}

export const LORA_ARGUMENTS = ['loraRank', 'loraAlpha'] as const;

/** The matrices of a layer: `scale` · A (…, rank) · B (rank, last) is added to its kernel W (…, last). */
export interface Lora {
  readonly a: Weight;
  readonly b: Weight;
}

/**
 * A layer whose kernel can be frozen while two small matrices next to it are trained. The kernel may be stored as
 * float32, bfloat16, int8 or int4 (QLoRA, https://arxiv.org/abs/2305.14314), and does not change.
 */
export abstract class LoraLayer extends Layer {
  /** Null while LoRA is off. */
  loraRank: number | null;
  /** Null while LoRA is off. */
  loraAlpha: number | null;
  /** The matrices while LoRA is on. */
  protected lora: Lora | undefined;

  /** Name of the adapted weight, which the names of the matrices contain: "kernel" or "embeddings". */
  abstract readonly loraName: string;
  /** The weight that the matrices adapt. */
  abstract get adapted(): AnyWeight;

  constructor({loraRank = null, loraAlpha = null, ...args}: LoraArgs) {
    super(args);
    const owner = this.getClassName();
    checkArgument(owner, 'loraRank', loraRank, 'sizeOrNull');
    checkArgument(owner, 'loraAlpha', loraAlpha, 'positiveOrNull');
    if (loraRank === null && loraAlpha !== null) {
      throw new ValueError(
        `${owner} expected \`loraRank\` together with \`loraAlpha\`. Received: only loraAlpha=${loraAlpha}.`,
      );
    }
    this.loraRank = loraRank;
    this.loraAlpha = loraAlpha ?? loraRank;
  }

  /** Whether the layer adds the product of two matrices to its kernel. */
  get loraEnabled(): boolean {
    return this.lora !== undefined;
  }

  /** alpha / rank. */
  get loraScale(): number {
    return this.loraAlpha! / this.loraRank!;
  }

  /**
   * Freezes the kernel and adds the product of two trainable matrices to it: A (…, rank) and B (rank, last) for a
   * kernel (…, last), times alpha / rank.
   *
   * @throws ValueError on unknown or invalid arguments, if the layer is not built yet, or if LoRA is already on.
   */
  enableLora(rank: number, options: LoraOptions = {}): void {
    const owner = `Layer "${this.name}"`;
    checkKeys('enableLora', options, ['alpha', 'aInitializer', 'bInitializer']);
    const {alpha = null, aInitializer = 'he_uniform', bInitializer = 'zeros'} = options;
    checkArgument(owner, 'rank', rank, 'size');
    checkArgument(owner, 'alpha', alpha, 'positiveOrNull');
    if (!this.built) throw new ValueError(`Cannot enable lora on a layer that isn't yet built. Received: ${owner}.`);
    if (this.lora) {
      throw new ValueError(
        `lora is already enabled. This can only be done once per layer. Received: ${owner}, with rank ${this.loraRank}.`,
      );
    }
    const initializers = [getInitializer(aInitializer), getInitializer(bInitializer)] as const;
    const shape = this.adapted.shape;
    this.lora = {
      a: this.addFloatWeight(`lora_${this.loraName}_a`, [...shape.slice(0, -1), rank], initializers[0]),
      b: this.addFloatWeight(`lora_${this.loraName}_b`, [rank, shape.at(-1)!], initializers[1]),
    };
    this.adapted.trainable = false;
    this.loraRank = rank;
    this.loraAlpha = alpha ?? rank;
  }

  /** Completes `build`: turns LoRA on for a layer that was created with `loraRank`. */
  protected finishBuild(): void {
    this.built = true;
    if (this.loraRank !== null) this.enableLora(this.loraRank, {alpha: this.loraAlpha});
  }

  /** Both matrices, for code that reads or writes them; undefined while LoRA is off. */
  get loraMatrices(): Lora | undefined {
    return this.lora;
  }

  /** Reads the values of the matrices, for computing on the host. LoRA must be on. */
  async readAdapter(): Promise<Adapter> {
    const {a, b} = this.lora!;
    const [first, second] = await Promise.all([a.read().data(), b.read().data()]);
    return {rank: this.loraRank!, alpha: this.loraAlpha!, a: first as Float32Array, b: second as Float32Array};
  }

  /** Turns LoRA off and disposes the matrices. The kernel is not changed and stays frozen. */
  disableLora(): void {
    for (const weight of Object.values(this.lora ?? {}) as Weight[]) {
      this.ownWeights.splice(this.ownWeights.indexOf(weight), 1);
      weight.dispose();
    }
    this.lora = undefined;
    this.loraRank = this.loraAlpha = null;
  }

  /** Excludes the matrices, since Keras files hold merged weights. */
  override get savedWeights(): AnyWeight[] {
    const {a, b} = this.lora ?? {};
    return this.ownWeights.filter(weight => weight !== a && weight !== b);
  }

  override getConfig(): tf.serialization.ConfigDict {
    const {loraRank, loraAlpha} = this;
    return {...super.getConfig(), ...(loraRank !== null && {loraRank, loraAlpha})};
  }
}

/** A product with A · B, split into two: x times one matrix, then the result times the other. */
export interface LoraEquations {
  readonly first: string;
  readonly second: string;
  /** Which matrix comes first: A, unless the kernel's last axis is summed over. */
  readonly order: 'ab' | 'ba';
}

/**
 * Splits the kernel of `x,kernel->y` in two: B has its last axis, A all others, and a new label joins both.
 * `btd,ndh->btnh` becomes `btd,ndr->btnr` and `btnr,rh->btnh`.
 */
export function loraEquations(equation: string): LoraEquations {
  const [x, kernel, y] = equation.split(/,|->/) as [string, string, string];
  const last = kernel.at(-1)!;
  const rank = [...'rabcdefghijklmnopqstuvwxyz'].find(label => !equation.includes(label))!;
  const a = kernel.slice(0, -1) + rank;
  const b = rank + last;
  if (x.includes(last) && !y.includes(last)) {
    const between = x.replace(last, rank);
    return {first: `${x},${b}->${between}`, second: `${between},${a}->${y}`, order: 'ba'};
  }
  // If x has the last axis too, that axis is kept next to the new one.
  const between =
    x.includes(last) || !y.includes(last) ? y.replace(/\.*$/, dots => rank + dots) : y.replace(last, rank);
  return {first: `${x},${a}->${between}`, second: `${between},${b}->${y}`, order: 'ab'};
}

/** `scale · x · A · B` as two small products: A · B itself is never computed. */
export function loraProduct(x: tf.Tensor, {a, b}: Lora, scale: number, equation: string): tf.Tensor {
  return tf.tidy(() => {
    const {first, second, order} = loraEquations(equation);
    const [one, two] = order === 'ab' ? [a, b] : [b, a];
    const between = denseEinsum(x, one.read(), planEinsum(first, x.rank));
    const scaled = scale === 1 ? between : tf.mul(between, scale);
    return denseEinsum(scaled, two.read(), planEinsum(second, between.rank));
  });
}

/** The size of a model's weights in each dtype, so that an error can name a dtype that fits. */
import {OutOfMemoryError} from '../base/errors';
import {formatBytes} from '../base/format_bytes';
import {type WeightFormat} from '../weights/dtype';
import {type AnyWeight} from '../weights/packed_weight';
import {packingFor} from '../weights/packing';
import {type Model} from './model';

/** Sizes in bytes. */
export interface WeightMemory {
  total: number;
  /** The largest weight, which must fit into one allocation. */
  largest: number;
}

/** Most bits first. */
const FORMATS: readonly WeightFormat[] = ['float32', 'bfloat16', 'int8', 'int4'];

/** Dtypes that the current backend supports. */
const usableFormats = () => FORMATS.filter(format => format === 'float32' || !packingFor(format).refused);

const weightsOf = (model: Model) => model.weights as AnyWeight[];

/**
 * Size of a model's weights in each dtype.
 *
 * @param make builds the model with a dtype. Its weights have no values, so this takes hardly any memory.
 */
export function memoryByDtype(make: (dtype: WeightFormat) => Model): Record<WeightFormat, WeightMemory> {
  const entries = FORMATS.map(dtype => {
    const model = make(dtype);
    const bytes = weightsOf(model).map(({byteLength}) => byteLength);
    model.dispose();
    return [dtype, {total: bytes.reduce((a, b) => a + b, 0), largest: Math.max(...bytes)}] as const;
  });
  return Object.fromEntries(entries) as Record<WeightFormat, WeightMemory>;
}

/** The same error, for a model that was being loaded: it adds the size of the weights, and a dtype that would fit. */
export function withDtypeThatFits(
  {figures}: OutOfMemoryError,
  model: Model,
  make: (dtype: WeightFormat) => Model,
): OutOfMemoryError {
  const weights = weightsOf(model);
  const sum = (some: typeof weights) => some.reduce((bytes, {byteLength}) => bytes + byteLength, 0);
  const others = Math.max(0, figures.used - sum(weights.filter(({filled}) => filled)));
  // If a single tensor was too large, nothing is known about the total. Otherwise a tenth is reserved for computation.
  const available = figures.bytes > figures.largest ? Infinity : 0.9 * (figures.limit - others);
  const needs = memoryByDtype(make);
  const formats = usableFormats();
  const fitting = formats.find(dtype => {
    const {total, largest} = needs[dtype];
    return total < sum(weights) && total <= available && largest <= figures.largest;
  });
  const list = formats.map(dtype => `${formatBytes(needs[dtype].total)} as ${dtype}`).join(', ');
  const advice = fitting
    ? `load it with dtype: "${fitting}".`
    : `none of them fits in addition to ${formatBytes(others)} of other tensors: dispose these, or load a smaller ` +
      'preset.';
  return new OutOfMemoryError(figures, `The weights of this model need ${list}: ${advice}`);
}

/** What the weights of a model take in each dtype, so that an error can say which one fits. */
import {OutOfMemoryError} from '../base/errors';
import {formatBytes} from '../base/format_bytes';
import {type WeightFormat} from '../weights/dtype';
import {type PackedWeight} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {type Model} from './model';

/** In bytes. */
export interface WeightMemory {
  total: number;
  /** Of the largest weight, which must lie in one piece. */
  largest: number;
}

/** Most bits first. */
const FORMATS: readonly WeightFormat[] = ['float32', 'bfloat16', 'int8', 'int4'];

const weightsOf = (model: Model) => model.weights as unknown as (Weight | PackedWeight)[];

/** @param make Builds the model with a dtype. Weights are only declared, so that this takes no memory to speak of. */
export function memoryByDtype(make: (dtype: WeightFormat) => Model): Record<WeightFormat, WeightMemory> {
  const entries = FORMATS.map(dtype => {
    const model = make(dtype);
    const bytes = weightsOf(model).map(({byteLength}) => byteLength);
    model.dispose();
    return [dtype, {total: bytes.reduce((a, b) => a + b, 0), largest: Math.max(...bytes)}] as const;
  });
  return Object.fromEntries(entries) as Record<WeightFormat, WeightMemory>;
}

/** The same error for a model that was being loaded, with what its weights need and the dtype that would fit. */
export function withDtypeThatFits(
  {figures}: OutOfMemoryError,
  model: Model,
  make: (dtype: WeightFormat) => Model,
): OutOfMemoryError {
  const weights = weightsOf(model);
  const sum = (some: typeof weights) => some.reduce((bytes, {byteLength}) => bytes + byteLength, 0);
  const others = Math.max(0, figures.used - sum(weights.filter(({filled}) => filled)));
  // Where a single tensor is too large there may be any number of memories. A tenth is for what is computed.
  const room = figures.bytes > figures.largest ? Infinity : 0.9 * (figures.limit - others);
  const needs = memoryByDtype(make);
  const fitting = FORMATS.find(dtype => {
    const {total, largest} = needs[dtype];
    return total < sum(weights) && total <= room && largest <= figures.largest;
  });
  const list = FORMATS.map(dtype => `${formatBytes(needs[dtype].total)} as ${dtype}`).join(', ');
  const advice = fitting
    ? `load it with dtype: "${fitting}".`
    : `none of them fits beside ${formatBytes(others)} in use by others: dispose these, or load a smaller preset.`;
  return new OutOfMemoryError(figures, `The weights of this model need ${list}: ${advice}`);
}

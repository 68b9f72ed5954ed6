/** Errors for weights that do not fit into a buffer of the device, with the dtypes that would fit. */
import {OutOfMemoryError, show} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {BYTES_PER_WEIGHT, type WeightFormat} from '../../weights/dtype';

const FORMATS = Object.keys(BYTES_PER_WEIGHT) as WeightFormat[];

/** Packed matrices are read in parts, float32 ones as a whole. */
const largestOf = ({maxBufferSize, maxStorageBufferBindingSize}: GPUSupportedLimits, format: WeightFormat): number =>
  format === 'float32' ? Math.min(maxBufferSize, maxStorageBufferBindingSize) : maxBufferSize;

/** @throws OutOfMemoryError naming the dtypes in which the weight fits. */
export function checkWeightFits({limits}: GPUDevice, shape: readonly number[], format: WeightFormat): void {
  const values = sizeOf(shape);
  const bytes = values * BYTES_PER_WEIGHT[format];
  const largest = largestOf(limits, format);
  if (bytes <= largest) return;
  const fitting = FORMATS.filter(one => values * BYTES_PER_WEIGHT[one] <= largestOf(limits, one)).map(show);
  const advice = fitting.length
    ? `A weight of shape [${shape.join()}] fits with dtype ${fitting.join(' or ')}: load the model with it.`
    : `A weight of shape [${shape.join()}] fits with no dtype: use a smaller model, or the backend "simd".`;
  throw new OutOfMemoryError({bytes, used: 0, limit: largest, largest}, advice);
}

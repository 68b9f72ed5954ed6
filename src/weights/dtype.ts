/** Keras' dtype policies, which determine how weights are stored. Arithmetic is always float32. */
import {show, ValueError} from '../base/errors';

/** How the weights of dense layers and embeddings are stored. */
export type WeightFormat = 'float32' | PackedFormat;

/** Formats with fewer bits than float32. */
export type PackedFormat = 'bfloat16' | 'int8' | 'int4';

/**
 * How weights are stored: "float32", "bfloat16", "int8", "int4" or the name of another Keras policy ("float16" and
 * mixed policies are stored as float32). Also the object that Keras writes for a policy, with keys in snake case or
 * camel case.
 */
export type DtypeLike =
  | string
  | {className?: string; class_name?: string; config?: {name?: string; [key: string]: unknown}; [key: string]: unknown};

export interface Dtype {
  /** Keras' name of the policy. */
  readonly name: string;
  readonly format: WeightFormat;
}

/**
 * How the weights of each policy are stored. float16 values are stored as float32, which holds them exactly; bfloat16
 * values are not changed. The variables of a mixed policy are float32, as in Keras.
 */
const FORMATS: Record<string, WeightFormat> = {
  float32: 'float32',
  bfloat16: 'bfloat16',
  int8: 'int8',
  int4: 'int4',
  float16: 'float32',
  mixed_bfloat16: 'float32',
  mixed_float16: 'float32',
};

/** @throws ValueError for unknown policies, and for the objects that Keras writes for quantized ones. */
export function parseDtype(dtype: DtypeLike | null | undefined): Dtype {
  const name = typeof dtype === 'object' ? dtype?.config?.name : (dtype ?? 'float32');
  const kind = typeof dtype === 'object' ? (dtype?.className ?? dtype?.class_name ?? 'DTypePolicy') : 'DTypePolicy';
  // In Keras no dtype means the global policy, which is float32 by default.
  const resolved = dtype === null ? 'float32' : name;
  // tfjs reads `mixed_bfloat16` from its JSON as `mixedBfloat16`.
  const policy =
    typeof resolved === 'string' ? resolved.replace(/B(?=float16$)|F(?=loat16$)/, c => `_${c.toLowerCase()}`) : '';
  const format = Object.hasOwn(FORMATS, policy) ? FORMATS[policy] : undefined;
  if (!format || (dtype !== null && kind !== 'DTypePolicy')) {
    throw new ValueError(
      `Expected dtype to be one of ${Object.keys(FORMATS).join(', ')}. Received: ${show(dtype)}. ` +
        'Presets that Keras quantized cannot be read: use the original preset.',
    );
  }
  return {name: policy, format};
}

/** Keras' dtype policies, which determine how weights are stored. Arithmetic is always float32. */
import {show, ValueError} from '../base/errors';

/** How the weights of dense layers and embeddings are stored. */
export type WeightFormat = 'float32' | PackedFormat;

/** Formats with fewer bits than float32. */
export type PackedFormat = 'bfloat16' | 'int8' | 'int4';

/** Bytes of a weight in a dense layer or an embedding, with its share of the scales. */
export const BYTES_PER_WEIGHT: Record<WeightFormat, number> = {float32: 4, bfloat16: 2, int8: 1.0625, int4: 0.625};

/** Keras policies by their names. "float16" and mixed policies are stored as float32. */
export type DtypeName = keyof typeof FORMATS;

/** How weights are stored: the name of a policy, or the object that Keras writes for one, in snake case or camel case. */
export type DtypeLike =
  | DtypeName
  | {className?: string; class_name?: string; config?: {name?: string; [key: string]: unknown}; [key: string]: unknown};

export interface Dtype {
  /** Keras' name of the policy. */
  readonly name: DtypeName;
  readonly format: WeightFormat;
  /** The number format of arithmetic. In Keras it would be that of the policy. */
  readonly computeDtype: 'float32';
  /** The number format of kernels that are not quantized. */
  readonly variableDtype: 'float32' | 'bfloat16';
  /** "int8" or "int4" if kernels are stored as integers, otherwise null. */
  readonly quantizationMode: 'int8' | 'int4' | null;
}

/**
 * How the weights of each policy are stored. float16 values are stored as float32, which holds them exactly; bfloat16
 * values are not changed. The variables of a mixed policy are float32, as in Keras.
 */
const FORMATS = {
  float32: 'float32',
  bfloat16: 'bfloat16',
  int8: 'int8',
  int4: 'int4',
  float16: 'float32',
  mixed_bfloat16: 'float32',
  mixed_float16: 'float32',
} as const satisfies Record<string, WeightFormat>;

/** A policy as the object that Keras writes. */
export const serializeDtype = ({name}: Dtype) => ({className: 'DTypePolicy', config: {name}});
/** Keras' class of unquantized policies, and its name before Keras 3.6. */
const POLICIES = ['DTypePolicy', 'FloatDTypePolicy'];

/** Whether Keras has a dtype policy of this name. */
export const isPolicy = (name: string): name is DtypeName => Object.hasOwn(FORMATS, name);

/** @throws ValueError for unknown policies, and for the objects that Keras writes for quantized ones. */
export function parseDtype(dtype: DtypeLike | null | undefined): Dtype {
  const name = typeof dtype === 'object' ? dtype?.config?.name : (dtype ?? 'float32');
  const kind = typeof dtype === 'object' ? (dtype?.className ?? dtype?.class_name) : undefined;
  // In Keras no dtype means the global policy, which is float32 by default.
  const resolved = dtype === null ? 'float32' : name;
  // tfjs reads `mixed_bfloat16` from its JSON as `mixedBfloat16`.
  const policy =
    typeof resolved === 'string' ? resolved.replace(/B(?=float16$)|F(?=loat16$)/, c => `_${c.toLowerCase()}`) : '';
  const format = isPolicy(policy) ? FORMATS[policy] : undefined;
  if (!isPolicy(policy) || !format || (kind !== undefined && !POLICIES.includes(kind))) {
    throw new ValueError(
      `Expected dtype to be one of ${Object.keys(FORMATS).join(', ')}. Received: ${show(dtype)}. ` +
        'For files of layers that Keras quantized, pass one of these, not the policy of Keras.',
    );
  }
  return {
    name: policy,
    format,
    computeDtype: 'float32',
    variableDtype: format === 'bfloat16' ? format : 'float32',
    quantizationMode: format === 'int8' || format === 'int4' ? format : null,
  };
}

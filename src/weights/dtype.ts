/** What a dtype, as Keras writes it, means here: how weights rest. Arithmetic is float32 always. */
import {show, ValueError} from '../base/errors';

/** How the weights of dense layers and embeddings rest. */
export type WeightFormat = 'float32' | PackedFormat;

/** Formats of fewer bits than float32. */
export type PackedFormat = 'bfloat16' | 'int8' | 'int4';

/**
 * How weights rest: "float32", "bfloat16", "int8" or "int4", or another name of a Keras policy ("float16" and mixed ones rest
 * as float32); or the object that Keras writes for a policy, keys in either casing.
 */
export type DtypeLike =
  | string
  | {className?: string; class_name?: string; config?: {name?: string; [key: string]: unknown}; [key: string]: unknown};

export interface Dtype {
  /** As Keras names the policy. */
  readonly name: string;
  readonly format: WeightFormat;
}

/**
 * Policies and how their weights rest. float16 values rest as float32, which holds them exactly; bfloat16 values rest
 * as they are. A mixed policy has float32 variables in Keras, so here too.
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

/** @throws ValueError for policies that are not known, and for the objects of Keras' quantized ones. */
export function parseDtype(dtype: DtypeLike | null | undefined): Dtype {
  const name = typeof dtype === 'object' ? dtype?.config?.name : (dtype ?? 'float32');
  const kind = typeof dtype === 'object' ? (dtype?.className ?? dtype?.class_name ?? 'DTypePolicy') : 'DTypePolicy';
  // Keras: no dtype given means the global policy, which is float32 unless somebody changed it.
  const resolved = dtype === null ? 'float32' : name;
  // tfjs reads `mixed_bfloat16` from its JSON as `mixedBfloat16`.
  const policy =
    typeof resolved === 'string' ? resolved.replace(/B(?=float16$)|F(?=loat16$)/, c => `_${c.toLowerCase()}`) : '';
  const format = Object.hasOwn(FORMATS, policy) ? FORMATS[policy] : undefined;
  if (!format || (dtype !== null && kind !== 'DTypePolicy')) {
    throw new ValueError(
      `Expected dtype to be one of ${Object.keys(FORMATS).join(', ')}. Received: ${show(dtype)}. ` +
        'Presets that Keras quantized cannot be read: use the preset they were made from.',
    );
  }
  return {name: policy, format};
}

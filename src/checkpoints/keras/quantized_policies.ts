/**
 * The dtype policies of models that Keras quantized. In this package, the files determine which kernels are integers.
 */
import {isObject, type Json, type JsonObject} from '../../base/json';

/** Keras' classes of policies that it quantizes with, each with the name of the policy before that. */
const QUANTIZED = /^(Quantized|Int4|QuantizedFloat8|GPTQ|AWQ)DTypePolicy$/;

/** The same as a name: `int8_from_float32`, `int4/128_from_bfloat16`. */
const NAME = /^(?:int8|int4|float8|gptq|awq)(?:\/[\d/-]+)?_from_(\w+)$/;

/** A policy per layer, which Keras writes if the layers of a model have different ones. */
const MAP = 'DTypePolicyMap';

/** The source of a policy that names none: Keras' global policy, unless it was changed. */
const GLOBAL = 'float32';

/** The name of the policy that a model had before it was quantized; undefined for other values. */
function sourceOf(value: Json): string | undefined {
  if (typeof value === 'string') return NAME.exec(value)?.[1];
  if (!isObject(value) || typeof value.class_name !== 'string' || !isObject(value.config)) return undefined;
  const {class_name: kind, config} = value;
  if (QUANTIZED.test(kind)) return typeof config.source_name === 'string' ? config.source_name : GLOBAL;
  if (kind !== MAP) return undefined;
  const policies = [config.default_policy, ...(isObject(config.policy_map) ? Object.values(config.policy_map) : [])];
  const sources = policies.map(policy => (policy === undefined ? undefined : (sourceOf(policy) ?? nameOf(policy))));
  return sources.find(name => name !== undefined) ?? GLOBAL;
}

/** The name of a policy that does not quantize. */
function nameOf(value: Json): string | undefined {
  if (typeof value === 'string') return value;
  const name = isObject(value) && isObject(value.config) ? value.config.name : undefined;
  return typeof name === 'string' ? name : undefined;
}

/** A configuration in which every quantized policy is replaced by the one that the model had before. */
export function withoutQuantization(config: JsonObject): JsonObject {
  const replaced = (value: Json): Json => {
    if (Array.isArray(value)) return value.map(replaced);
    return isObject(value) ? withoutQuantization(value) : value;
  };
  return Object.fromEntries(
    Object.entries(config).map(([key, value]) => {
      const source = key === 'dtype' ? sourceOf(value) : undefined;
      if (source === undefined) return [key, replaced(value)];
      return [key, {module: 'keras', class_name: 'DTypePolicy', config: {name: source}, registered_name: null}];
    }),
  );
}

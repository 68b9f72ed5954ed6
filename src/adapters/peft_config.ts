/** The settings of `adapter_config.json`, up to PEFT 0.21: each is read, known to have no effect here, or refused. */
import {checkArgument} from '../base/checks';
import {show, ValueError} from '../base/errors';
import {isObject, type Json, type JsonObject} from '../base/json';

/** What a configuration says about the matrices in the file. */
export interface PeftConfig {
  /** For error messages. */
  readonly file: string;
  readonly rank: number;
  readonly alpha: number;
  /** Ranks and alphas of modules, by patterns of their names. */
  readonly rankPattern: Readonly<Record<string, number>>;
  readonly alphaPattern: Readonly<Record<string, number>>;
  /** Whether alpha is divided by the square root of the rank. */
  readonly rootScale: boolean;
  readonly selection: PeftSelection;
}

/** Which modules PEFT adapts. A string is a pattern, and a list has names, or ends of names. */
export interface PeftSelection {
  readonly target: string | readonly string[] | null;
  readonly exclude: string | readonly string[] | null;
  readonly layers: readonly number[];
  readonly layersPattern: readonly string[];
}

/** Settings that `parseConfig` reads. */
const READ = [
  ...['peft_type', 'r', 'lora_alpha', 'rank_pattern', 'alpha_pattern', 'use_rslora', 'init_lora_weights'],
  ...['loftq_config', 'target_modules', 'exclude_modules', 'layers_to_transform', 'layers_pattern'],
];

/**
 * Settings that say where the adapter comes from and how it was trained. CorDA, EVA and LoRA-GA are settings of the
 * initialization, which `init_lora_weights` names; `ensure_weight_tying` is about embeddings, whose matrices have
 * other names. `merge_weights` was an option of PEFT 0.2.
 */
const HARMLESS = [
  ...['auto_mapping', 'base_model_name_or_path', 'revision', 'task_type', 'inference_mode', 'peft_version'],
  ...['lora_dropout', 'runtime_config', 'megatron_core', 'qalora_group_size', 'ensure_weight_tying'],
  ...['corda_config', 'eva_config', 'lora_ga_config', 'merge_weights'],
];

/**
 * Settings that give an adapter more than two matrices per layer, or another meaning. PEFT tests most for truthiness.
 */
const REFUSED = [
  ...['use_dora', 'use_qalora', 'use_bdlora', 'fan_in_fan_out', 'lora_bias', 'bias', 'modules_to_save'],
  ...['trainable_token_indices', 'layer_replication', 'target_parameters', 'megatron_config'],
  ...['velora_config', 'monteclora_config', 'kasa_config'],
];

/** Settings whose effect depends on the tokens, so that PEFT cannot merge the adapter either. */
const REFUSED_UNMERGEABLE = ['alora_invocation_tokens', 'arrow_config'];

/** Initializations that leave the base weights as they are. */
const PLAIN_INITS = ['gaussian', 'eva', 'orthogonal', 'mica'];

/** Initializations that PEFT can undo when it saves the adapter. */
const CONVERTIBLE_INITS = /^(?:pissa|corda|olora$|lora_ga$)/i;

const isOff = (value: Json | undefined): boolean =>
  !value || (typeof value === 'object' && Object.keys(value).length === 0);

function checkKeysOf(config: JsonObject, file: string): void {
  for (const [key, value] of Object.entries(config)) {
    if (READ.includes(key) || HARMLESS.includes(key) || isOff(value)) continue;
    if (key === 'bias' && value === 'none') continue;
    const received = `Received: ${key}=${show(value)}`;
    if (REFUSED.includes(key)) {
      throw new ValueError(
        `Expected an adapter with only two matrices per layer in "${file}". ${received}. ` +
          'Merge the adapter into its model with PEFT.',
      );
    }
    if (REFUSED_UNMERGEABLE.includes(key)) {
      throw new ValueError(
        `Expected an adapter that treats all tokens alike in "${file}". ${received}. Train one without this setting.`,
      );
    }
    throw new ValueError(
      `Expected the settings of PEFT 0.21 in "${file}". ${received}, which is unknown here. ` +
        'If it does not change the meaning of the matrices, remove it from the file; otherwise merge the adapter ' +
        'into its model with PEFT.',
    );
  }
}

/**
 * Refuses initializations that also change the base weights, because the adapter alone then does not contain what was
 * trained.
 */
function checkInit({init_lora_weights: init, loftq_config: loftq}: JsonObject, file: string): void {
  const expected = `Expected an adapter of unchanged base weights in "${file}". Received: `;
  const received = `${expected}init_lora_weights=${show(init)}`;
  if (typeof init === 'string' && CONVERTIBLE_INITS.test(init)) {
    throw new ValueError(
      `${received}, which changes them. Save the adapter with PEFT's \`path_initial_model_for_weight_conversion\`, ` +
        'or merge it into its model with PEFT.',
    );
  }
  if (init === 'loftq' || !isOff(loftq)) {
    const what = init === 'loftq' ? received : `${expected}loftq_config=${show(loftq)}`;
    throw new ValueError(`${what}, which quantizes them. Merge the adapter into its model with PEFT.`);
  }
  if (isOff(init) || init === true) return;
  if (typeof init !== 'string' || !PLAIN_INITS.includes(init.toLowerCase())) {
    throw new ValueError(
      `${received}, which is unknown here. Expected true, false or one of ${PLAIN_INITS.join(', ')}. ` +
        'Merge the adapter into its model with PEFT.',
    );
  }
}

function parsePattern(config: JsonObject, key: string, kind: 'size' | 'positive', file: string) {
  const pattern = config[key] ?? {};
  if (!isObject(pattern)) {
    throw new ValueError(`"${file}" expected \`${key}\` to be an object. Received: ${key}=${show(pattern)}.`);
  }
  for (const value of Object.values(pattern)) checkArgument(`"${file}"`, key, value, kind);
  return pattern as Record<string, number>;
}

/** A setting that is one value or a list of values of a type. */
function parseList<T extends string | number>(
  config: JsonObject,
  key: string,
  type: 'string' | 'number',
  file: string,
) {
  const value = config[key] ?? null;
  const values: readonly Json[] = Array.isArray(value) ? value : value === null ? [] : [value];
  if (values.some(item => typeof item !== type)) {
    throw new ValueError(
      `"${file}" expected \`${key}\` to be null, a ${type} or a list of them. Received: ${key}=${show(value)}.`,
    );
  }
  return {value: value as T | readonly T[] | null, values: values as readonly T[]};
}

/** @throws ValueError on settings that change the meaning of the matrices, and on unusable or unknown ones. */
export function parseConfig(config: Json, file: string): PeftConfig {
  if (!isObject(config) || config.peft_type !== 'LORA') {
    const kind = isObject(config) ? config.peft_type : config;
    throw new ValueError(`Expected an adapter of peft_type "LORA" in "${file}". Received: ${show(kind)}.`);
  }
  checkKeysOf(config, file);
  checkInit(config, file);
  const {r, lora_alpha: alpha, use_rslora: rootScale = null} = config;
  checkArgument(`"${file}"`, 'r', r, 'size');
  checkArgument(`"${file}"`, 'lora_alpha', alpha, 'positive');
  if (rootScale !== null) checkArgument(`"${file}"`, 'use_rslora', rootScale, 'flag');
  return {
    file,
    rank: r as number,
    alpha: alpha as number,
    rankPattern: parsePattern(config, 'rank_pattern', 'size', file),
    alphaPattern: parsePattern(config, 'alpha_pattern', 'positive', file),
    rootScale: rootScale === true,
    selection: {
      target: parseList<string>(config, 'target_modules', 'string', file).value,
      exclude: parseList<string>(config, 'exclude_modules', 'string', file).value,
      layers: parseList<number>(config, 'layers_to_transform', 'number', file).values,
      layersPattern: parseList<string>(config, 'layers_pattern', 'string', file).values,
    },
  };
}

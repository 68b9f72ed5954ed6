/**
 * Adapters of Hugging Face's PEFT (https://huggingface.co/docs/peft): `adapter_config.json`,
 * `adapter_model.safetensors`.
 */
import type * as tf from '@tensorflow/tfjs';
import {intoFolder} from '../base/byte_sink';
import {announceReads} from '../base/byte_source';
import {checkArgument} from '../base/checks';
import {checkKeys, listed, ValueError} from '../base/errors';
import {type JsonObject, readJson, writeJson} from '../base/json';
import {FETCH_OPTIONS, type FetchOptions} from '../files/http_client';
import {openTarget, type PresetTarget} from '../files/open_folder';
import {
  float32Content,
  readSafetensors,
  type SafeTensor,
  type TensorContent,
  writeSafetensors,
} from '../formats/safetensors';
import {openPreset, type PresetLike} from '../hub/open_preset';
import {type LoraLayer} from '../layers/lora';
import {ReversibleEmbedding} from '../layers/reversible_embedding';
import {applyAdapters, type LayerAdapter, loraLayers, NO_LORA} from './model_lora';
import {parseConfig, type PeftConfig} from './peft_config';
import {fromPeft, matrixSize, toPeft, withOneRank} from './peft_matrices';
import {type ModuleNames, patternValues, selects} from './peft_modules';

/** Options of `exportPeftAdapter`. */
export interface ExportPeftOptions {
  /**
   * Name of the adapter's base model, such as `google/gemma-3-270m`, for `base_model_name_or_path`. Defaults to null.
   */
  baseModel?: string | null;
}

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';
const PREFIX = 'base_model.model.';

// === Export ===

/** Implements `Gemma3Backbone.exportPeftAdapter`; see there for errors. */
export async function exportPeftAdapter(
  backbone: tf.LayersModel,
  {modules}: ModuleNames,
  target: PresetTarget,
  options: ExportPeftOptions,
): Promise<void> {
  checkKeys('exportPeftAdapter', options, ['baseModel']);
  const {baseModel = null} = options;
  if (baseModel !== null) checkArgument('exportPeftAdapter', 'baseModel', baseModel, 'text');
  const layers = [...loraLayers(backbone).values()];
  if (layers.length === 0) throw new ValueError(NO_LORA);
  const nameOf = new Map([...modules].map(([name, layer]) => [layer, name]));
  const nameless = layers.find(layer => !nameOf.has(layer));
  if (nameless) {
    throw new ValueError(
      `Expected LoRA on layers that PEFT can adapt in the same way. Received: "${nameless.path}", ` +
        (nameless instanceof ReversibleEmbedding
          ? 'which is also the output head here; PEFT adapts an embedding without the head.'
          : 'which has no counterpart in the Hugging Face model.'),
    );
  }
  const contents: TensorContent[] = [];
  const sizes = new Map<string, {rank: number; alpha: number}>();
  for (const layer of layers) {
    const name = nameOf.get(layer)!;
    const adapter = await layer.readAdapter();
    const {rank, a, b} = toPeft(layer, adapter);
    const [inputs, outputs] = matrixSize(layer);
    contents.push(float32Content(`${PREFIX}${name}.lora_A.weight`, [rank, inputs], a));
    contents.push(float32Content(`${PREFIX}${name}.lora_B.weight`, [outputs, rank], b));
    sizes.set(name, {rank, alpha: (adapter.alpha / adapter.rank) * rank});
  }
  const sink = await openTarget(target);
  await intoFolder(sink, async () => {
    await writeJson(sink, CONFIG, adapterConfig(sizes, [...modules.keys()], layers[0]!, baseModel), 2);
    const file = await sink.create(WEIGHTS);
    await writeSafetensors(file, contents);
    await file.close();
  });
}

const lastPart = (name: string) => name.slice(name.lastIndexOf('.') + 1);

/** Last parts of names, such as `q_proj`, if they select exactly these modules; otherwise the full names. */
function shortNames(names: readonly string[], all: readonly string[]): string[] {
  const ends = [...new Set(names.map(lastPart))];
  // Hugging Face's vision tower has an extra head with module names that end like those of its layers.
  const vision = names.some(name => name.includes('vision_tower'));
  const clear = !vision && ends.every(end => all.every(name => lastPart(name) !== end || names.includes(name)));
  return clear ? ends : [...names];
}

function adapterConfig(
  sizes: ReadonlyMap<string, {rank: number; alpha: number}>,
  all: readonly string[],
  {loraRank, loraAlpha}: LoraLayer,
  baseModel: string | null,
): JsonObject {
  // Matrices from another program may have a different rank in the file than in the model.
  const usualOf = (key: 'rank' | 'alpha', own: number) => {
    const values = [...sizes.values()].map(size => size[key]);
    return values.includes(own) ? own : values[0]!;
  };
  const [usualRank, usualAlpha] = [usualOf('rank', loraRank!), usualOf('alpha', loraAlpha!)];
  const pattern = (key: 'rank' | 'alpha', usual: number) => {
    const result: Record<string, number> = {};
    for (const value of new Set([...sizes.values()].map(size => size[key]))) {
      if (value === usual) continue;
      const names = [...sizes].filter(([, size]) => size[key] === value).map(([name]) => name);
      for (const name of shortNames(names, all)) result[name] = value;
    }
    return result;
  };
  return {
    peft_type: 'LORA',
    task_type: 'CAUSAL_LM',
    base_model_name_or_path: baseModel,
    r: usualRank,
    lora_alpha: usualAlpha,
    target_modules: shortNames([...sizes.keys()], all),
    rank_pattern: pattern('rank', usualRank),
    alpha_pattern: pattern('alpha', usualAlpha),
    lora_dropout: 0,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    modules_to_save: null,
    use_dora: false,
    use_rslora: false,
  };
}

// === Import ===

/** Implements `Gemma3Backbone.importPeftAdapter`; see there for errors. */
export async function importPeftAdapter(
  backbone: tf.LayersModel,
  names: ModuleNames,
  source: PresetLike,
  options: FetchOptions,
): Promise<void> {
  checkKeys('importPeftAdapter', options, FETCH_OPTIONS);
  const files = await openPreset(source, options);
  const config = parseConfig(await readJson(files, CONFIG), `${files.name}/${CONFIG}`);
  const weights = await files.open(WEIGHTS);
  try {
    const {tensors, start} = await readSafetensors(weights);
    announceReads([{source: weights, start, end: weights.size}]);
    applyAdapters(backbone, weights.name, await readAdapters(names, weights.name, tensors, config));
  } finally {
    await weights.close();
  }
}

interface Pair {
  layer: LoraLayer;
  /** Name of the module in the file. */
  name: string;
  a?: SafeTensor;
  b?: SafeTensor;
}

async function readAdapters(
  names: ModuleNames,
  file: string,
  tensors: ReadonlyMap<string, SafeTensor>,
  config: PeftConfig,
): Promise<LayerAdapter[]> {
  const pairs = [...pairsOf(names, file, tensors).values()];
  const adapted = pairs.map(({name}) => name);
  const rankOf = patternValues('rank_pattern', config.rankPattern, config.file, adapted, names);
  const alphaOf = patternValues('alpha_pattern', config.alphaPattern, config.file, adapted, names);
  const selected = selects(config.selection, names);
  const problems = pairs.flatMap(({name, a}) => {
    if (!selected(name)) {
      return `"${name}" is not selected by target_modules, exclude_modules, layers_to_transform and layers_pattern`;
    }
    const rank = rankOf(name) ?? config.rank;
    return rank === a!.shape[0] ? [] : `"${name}" has rank ${a!.shape[0]}, which is ${rank} by r and rank_pattern`;
  });
  if (problems.length > 0) {
    throw new ValueError(
      `Expected matrices in "${file}" as "${config.file}" describes them. Received: ${listed(problems)}. ` +
        'Save the adapter with PEFT again, or correct the settings.',
    );
  }
  const read = [];
  for (const {layer, name, a, b} of pairs) {
    const rank = a!.shape[0]!;
    const alpha = alphaOf(name) ?? config.alpha;
    const scale = config.rootScale ? alpha / Math.sqrt(rank) : alpha / rank;
    read.push({layer, scale, ...fromPeft(layer, {rank, a: await a!.readFloat32(), b: await b!.readFloat32()})});
  }
  return withOneRank(read);
}

/** Pairs of tensors by module name. Each must belong to a module of the model, and fit it. */
function pairsOf(
  {modules, current}: ModuleNames,
  file: string,
  tensors: ReadonlyMap<string, SafeTensor>,
): Map<string, Pair> {
  const pairs = new Map<string, Pair>();
  const problems: string[] = [];
  for (const [full, tensor] of tensors) {
    const match = /^base_model\.model\.(.+)\.lora_([AB])(?:\.default)?\.weight$/.exec(full);
    const name = match && current(match[1]!);
    const layer = name ? modules.get(name) : undefined;
    if (!name || !layer) {
      problems.push(`"${full}" belongs to no layer of the model`);
      continue;
    }
    const pair: Pair = pairs.get(name) ?? {layer, name: match![1]!};
    pairs.set(name, pair);
    const [inputs, outputs] = matrixSize(layer);
    const [side, size] = match![2] === 'A' ? ([1, inputs] as const) : ([0, outputs] as const);
    if (tensor.shape.length !== 2 || tensor.shape[side] !== size) {
      const expected = side === 1 ? `[rank, ${size}]` : `[${size}, rank]`;
      problems.push(`"${full}" has shape [${tensor.shape}], expected ${expected}`);
    }
    const key = match![2] === 'A' ? 'a' : 'b';
    if (pair[key]) problems.push(`"${full}" has a second name for a module that the file already has`);
    pair[key] = tensor;
  }
  for (const [name, {a, b}] of pairs) {
    if (!a || !b) problems.push(`"${name}" has ${a ? 'no lora_B' : 'no lora_A'}`);
    else if (a.shape[0] !== b.shape[1] || a.shape[0] === 0) {
      problems.push(`"${name}" has matrices [${a.shape}] and [${b.shape}] of different rank`);
    }
  }
  if (pairs.size === 0 && problems.length === 0) problems.push('it has no matrices');
  if (problems.length > 0) {
    throw new ValueError(`The adapter "${file}" does not fit the model: ${listed(problems)}.`);
  }
  return pairs;
}

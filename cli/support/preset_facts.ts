/** What can be known of a preset without reading its weights. */
import type * as library from 'tfjs-gemma3';
import {DTYPES} from './options';

type Library = typeof library;

export interface Variable {
  path: string;
  shape: number[];
  /** As it is in the file; null without files. */
  dtype: string | null;
  bytes: number | null;
  file: string | null;
}

export interface PresetFacts {
  preset: string;
  /** Where its files are; null for a name alone. */
  source: string | null;
  /** Arguments of the backbone, as KerasHub writes them. */
  config: Record<string, unknown>;
  /** Null if neither the model could be built nor its files say it. */
  parameters: number | null;
  format: 'single' | 'sharded' | 'tfjs' | null;
  files: {name: string; variables: number; bytes: number}[];
  variables: Variable[];
  /** Bytes of the weights at rest, by dtype; null if the model cannot be built. */
  memory: Record<(typeof DTYPES)[number], number> | null;
  /** Bytes of the cache of one text, by its length in tokens; null if the model cannot be built. */
  cache: {tokens: number; bytes: number}[] | null;
  /** Why the model cannot be built. */
  problem: string | null;
}

/** @throws ValueError if there is no such preset, or its files cannot be read. */
export async function presetFacts(preset: string): Promise<PresetFacts> {
  // Not before it is needed: help and errors of usage come at once.
  const tfjsGemma3 = await import('tfjs-gemma3');
  const {listPresetVariables} = tfjsGemma3;
  const {presets} = tfjsGemma3.Gemma3Backbone;
  const source = await filesOf(preset, tfjsGemma3);
  const config = source ? await readConfig(source) : presets[preset]!.config;
  const format = source ? await weightFormat(source) : null;
  const stored: Variable[] = source && format ? await listPresetVariables(source) : [];
  const {declared, memory, cache, problem} = build(config, tfjsGemma3);
  const variables = stored.length ? stored : declared;
  const count = variables.reduce((sum, {shape}) => sum + sizeOf(shape), 0);
  return {
    preset,
    source: source?.name ?? null,
    config,
    parameters: count || (source ? null : presets[preset]!.metadata.params),
    format,
    files: filesWithSizes(stored),
    variables,
    memory,
    cache,
    problem,
  };
}

/** The open preset, or undefined for one of KerasHub's names whose files are not here. */
async function filesOf(
  preset: string,
  {Gemma3Backbone, openPreset}: Library,
): Promise<library.PresetSource | undefined> {
  try {
    return await openPreset(preset);
  } catch (error) {
    if (Object.hasOwn(Gemma3Backbone.presets, preset)) return undefined;
    throw error;
  }
}

async function readConfig(source: library.PresetSource): Promise<Record<string, unknown>> {
  const file = await source.open('config.json');
  const bytes = new Uint8Array(file.size);
  try {
    await file.readInto(0, bytes);
  } finally {
    await file.close();
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new Error(`Expected JSON in ${file.name}: ${(error as Error).message}. Fetch the preset again.`);
  }
  const {class_name: kind, config} = (parsed ?? {}) as {class_name?: unknown; config?: unknown};
  if (kind !== 'Gemma3Backbone' || typeof config !== 'object' || config === null) {
    throw new Error(`Expected the configuration of a Gemma3Backbone in ${file.name}. Received: ${String(kind)}.`);
  }
  return config as Record<string, unknown>;
}

async function weightFormat(source: library.PresetSource): Promise<PresetFacts['format']> {
  if (await source.has('model.weights.h5')) return 'single';
  if (await source.has('model.weights.json')) return 'sharded';
  return (await source.has('model.json')) ? 'tfjs' : null;
}

function filesWithSizes(variables: readonly Variable[]): PresetFacts['files'] {
  const files = new Map<string, {name: string; variables: number; bytes: number}>();
  for (const {file, bytes} of variables) {
    const name = file!;
    const entry = files.get(name) ?? {name, variables: 0, bytes: 0};
    files.set(name, {name, variables: entry.variables + 1, bytes: entry.bytes + bytes!});
  }
  return [...files.values()];
}

const CACHE_LENGTHS = [1024, 8192, 32768];

/** Weights are only declared, so that a model of any size is built at once. */
function build(
  config: object,
  {Gemma3Backbone, Gemma3Cache, memoryByDtype}: Library,
): {declared: Variable[]} & Pick<PresetFacts, 'memory' | 'cache' | 'problem'> {
  let declared: Variable[] = [];
  let cache: PresetFacts['cache'] = [];
  try {
    const needs = memoryByDtype(dtype => {
      const backbone = new Gemma3Backbone({...config, dtype} as never);
      declared = backbone.weights.map(weight => {
        return {path: weight.originalName, shape: weight.shape as number[], dtype: null, bytes: null, file: null};
      });
      cache = CACHE_LENGTHS.map(tokens => ({tokens, bytes: Gemma3Cache.byteLength(backbone, tokens)}));
      return backbone;
    });
    const memory = Object.fromEntries(DTYPES.map(dtype => [dtype, needs[dtype].total])) as PresetFacts['memory'];
    return {declared, memory, cache, problem: null};
  } catch (error) {
    return {declared: [], memory: null, cache: null, problem: (error as Error).message};
  }
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

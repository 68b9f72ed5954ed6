/** Facts about a preset that need no weights to be loaded. */
import type * as library from 'tfjs-gemma3';
import {DTYPES} from './options';

type Library = typeof library;

interface StoredVariable {
  path: string;
  shape: number[];
  /** Format in the file. */
  dtype: string;
  bytes: number;
  file: string;
}

/** A variable in a file, or only declared by the model: then `dtype`, `bytes` and `file` are null. */
export type Variable = StoredVariable | {path: string; shape: number[]; dtype: null; bytes: null; file: null};

export interface PresetFacts {
  preset: string;
  /** Location of the files; null for a name without files on this machine. */
  source: string | null;
  /** Arguments of the backbone, with KerasHub's names. */
  config: Record<string, unknown>;
  /** Null if it follows neither from the model nor from the files. */
  parameters: number | null;
  format: 'single' | 'sharded' | 'tfjs' | null;
  files: {name: string; variables: number; bytes: number}[];
  variables: Variable[];
  /** Bytes of the stored weights by dtype; null if the model cannot be built. */
  memory: Record<(typeof DTYPES)[number], number> | null;
  /** Bytes of the cache of one text, by its length in tokens; null if the model cannot be built. */
  cache: {tokens: number; bytes: number}[] | null;
  /** The reason why the model cannot be built. */
  problem: string | null;
}

/** @throws ValueError if there is no such preset, or its files cannot be read. */
export async function presetFacts(preset: string): Promise<PresetFacts> {
  // Imported here, because loading the package would delay help and usage errors.
  const tfjsGemma3 = await import('tfjs-gemma3');
  const {util} = await import('@tensorflow/tfjs');
  const {presets} = tfjsGemma3.Gemma3Backbone;
  const source = await openFiles(preset, tfjsGemma3);
  const config = source ? await readConfig(source, tfjsGemma3) : presets[preset]!.config;
  const format = source ? await weightFormat(source) : null;
  const stored: StoredVariable[] = source && format ? await tfjsGemma3.listPresetVariables(source) : [];
  const {declared, memory, cache, problem} = build(config, tfjsGemma3);
  const variables = stored.length ? stored : declared;
  const count = variables.reduce((sum, {shape}) => sum + util.sizeFromShape(shape), 0);
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

/** The open preset, or undefined for a name of KerasHub without files on this machine. */
async function openFiles(
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

async function readConfig(source: library.PresetSource, {readPresetConfig}: Library): Promise<library.JsonObject> {
  const {class_name: kind, config} = await readPresetConfig(source);
  if (kind === 'Gemma3Backbone') return config;
  throw new Error(`Expected the config.json of a Gemma3Backbone in "${source.name}". Received: ${kind}.`);
}

async function weightFormat(source: library.PresetSource): Promise<PresetFacts['format']> {
  if (await source.has('model.weights.h5')) return 'single';
  if (await source.has('model.weights.json')) return 'sharded';
  return (await source.has('model.json')) ? 'tfjs' : null;
}

function filesWithSizes(variables: readonly StoredVariable[]): PresetFacts['files'] {
  const files = new Map<string, {name: string; variables: number; bytes: number}>();
  for (const {file: name, bytes} of variables) {
    const entry = files.get(name) ?? {name, variables: 0, bytes: 0};
    files.set(name, {name, variables: entry.variables + 1, bytes: entry.bytes + bytes});
  }
  return [...files.values()];
}

const CACHE_LENGTHS = [1024, 8192, 32768];

/** Builds the model with weights that are only declared, which is fast at any size. */
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

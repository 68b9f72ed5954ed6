/** Facts about a preset that are known without loading its weights. */
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

/** A variable in a file. If the model declares it but there is no file, `dtype`, `bytes` and `file` are null. */
export type Variable = StoredVariable | {path: string; shape: number[]; dtype: null; bytes: null; file: null};

export interface PresetFacts {
  preset: string;
  /** Location of the files; null for a name without files on this machine. */
  source: string | null;
  /** Arguments of the backbone, with KerasHub's names. */
  config: Record<string, unknown>;
  /** Number of parameters. Null if neither the model nor the files determine it. */
  parameters: number | null;
  /** How the weights are divided into files: single, sharded, tfjs …; null without weights. */
  format: string | null;
  /** Name of the file format as users see it; null without files. */
  title: string | null;
  files: {name: string; variables: number; bytes: number}[];
  variables: Variable[];
  /** Bytes of the stored weights by dtype; null if the model cannot be built. */
  memory: Record<(typeof DTYPES)[number], number> | null;
  /** Bytes of the cache of one text, by its length in tokens; null if the model cannot be built. */
  cache: {tokens: number; bytes: number}[] | null;
  /** The reason why the model cannot be built. */
  problem: string | null;
}

/**
 * @param opening how the preset is opened.
 * @throws ValueError if there is no such preset, or its files cannot be read.
 */
export async function presetFacts(
  preset: string,
  opening: library.files.CheckpointOptions = {},
  cacheDtype: library.CacheDtype = 'float32',
): Promise<PresetFacts> {
  // Imported here, because loading the package would delay help and usage errors.
  const tfjsGemma3 = await import('tfjs-gemma3');
  const {util} = await import('@tensorflow/tfjs');
  const entry = tfjsGemma3.Gemma3Backbone.presets[preset];
  const checkpoint = await openFiles(preset, opening, tfjsGemma3);
  try {
    const config = checkpoint ? (await checkpoint.config('backbone', 'Gemma3Backbone'))!.config : entry!.config;
    const {layout, stored} = await storedVariables(checkpoint);
    const {declared, memory, cache, problem} = build(
      await known(config, checkpoint, tfjsGemma3),
      tfjsGemma3,
      cacheDtype,
    );
    const variables = stored.length ? stored : declared;
    const count = variables.reduce((sum, {shape}) => sum + util.sizeFromShape(shape), 0);
    return {
      preset,
      source: checkpoint?.name ?? null,
      config,
      parameters: count || (checkpoint ? null : entry!.metadata.params),
      format: layout,
      title: checkpoint?.title ?? null,
      files: filesWithSizes(stored),
      ...{variables, memory, cache, problem},
    };
  } finally {
    await checkpoint?.close();
  }
}

/** The configuration without keys that `fromPreset` ignores with a warning. */
async function known(
  config: object,
  checkpoint: library.files.Checkpoint | undefined,
  {Gemma3Backbone}: Library,
): Promise<object> {
  try {
    const backbone = await Gemma3Backbone.fromPreset(checkpoint!, {loadWeights: false});
    const complete = backbone.getConfig();
    backbone.dispose();
    return complete;
  } catch {
    // No files, or no model: `build` says why.
    return config;
  }
}

/** The open preset, or undefined for a KerasHub name without files on this machine. */
async function openFiles(
  preset: string,
  opening: library.files.CheckpointOptions,
  {files, Gemma3Backbone}: Library,
): Promise<library.files.Checkpoint | undefined> {
  try {
    // The registry knows the architecture. For other models, the beginnings of files are read with range requests.
    const isKnown = Object.hasOwn(Gemma3Backbone.presets, preset);
    return await files.openCheckpoint(preset, {...opening, download: false, ...(isKnown && {offline: true})});
  } catch (error) {
    if (Object.hasOwn(Gemma3Backbone.presets, preset) && opening.mmproj === undefined) return undefined;
    throw error;
  }
}

/** The variables in the files, and how the weights are divided into files. Empty for a preset without weights. */
async function storedVariables(
  checkpoint: library.files.Checkpoint | undefined,
): Promise<{layout: string | null; stored: StoredVariable[]}> {
  if (!(await checkpoint?.hasWeights())) return {layout: null, stored: []};
  const {layout, variables, close} = await checkpoint!.weights();
  await close();
  const stored = [...variables].map(([path, {shape, dtype, byteLength, file}]) => {
    return {path, shape: [...shape], dtype, bytes: byteLength, file};
  });
  return {layout, stored};
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
  {Gemma3Backbone, Gemma3Cache, weights}: Library,
  cacheDtype: library.CacheDtype,
): {declared: Variable[]} & Pick<PresetFacts, 'memory' | 'cache' | 'problem'> {
  let declared: Variable[] = [];
  let cache: PresetFacts['cache'] = [];
  try {
    const needs = weights.memoryByDtype(dtype => {
      const backbone = new Gemma3Backbone({...config, dtype} as never);
      declared = backbone.weights.map(weight => {
        return {path: weight.originalName, shape: weight.shape as number[], dtype: null, bytes: null, file: null};
      });
      cache = CACHE_LENGTHS.map(tokens => ({tokens, bytes: Gemma3Cache.byteLength(backbone, tokens, cacheDtype)}));
      return backbone;
    });
    const memory = Object.fromEntries(DTYPES.map(dtype => [dtype, needs[dtype].total])) as PresetFacts['memory'];
    return {declared, memory, cache, problem: null};
  } catch (error) {
    return {declared: [], memory: null, cache: null, problem: (error as Error).message};
  }
}

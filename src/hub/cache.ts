/** The models in the caches of all hubs. */
import {didYouMean, ValueError} from '../base/errors';
import {hubOf, hubs} from './all';
import {type CachedModel, type FileProblem} from './hub';
import {registeredPreset} from './registry';

/** Implements `cachedPresets` of on_demand.ts; see there for errors. */
export async function cachedPresets(): Promise<CachedModel[]> {
  const models: CachedModel[] = [];
  for (const hub of hubs) models.push(...(await hub.list()));
  return models;
}

/** The cached models that a name refers to. A name without a version refers to all versions. */
async function chosen(name: string): Promise<CachedModel[]> {
  const full = registeredPreset(name)?.kaggleHandle ?? name;
  const all = await cachedPresets();
  const isVersionOf = (other: string) => other.startsWith(`${full}/`) && /^\d+$/.test(other.slice(full.length + 1));
  const found = all.filter(model => model.name === full || isVersionOf(model.name));
  if (found.length > 0) return found;
  const names = all.map(model => model.name);
  throw new ValueError(
    `Expected the name of a model in the cache. Received: "${name}".${didYouMean([full], names)} Run "gemma3 cache ` +
      'list" to see the models in it.',
  );
}

/** Implements `removeCachedPreset` of on_demand.ts; see there for errors. */
export async function removeCachedPreset(name: string): Promise<CachedModel[]> {
  const models = await chosen(name);
  for (const model of models) await hubOf(model.name)!.remove(model);
  return models;
}

/** A model whose files were compared with their checksums. */
export interface VerifiedPreset extends CachedModel {
  /** Number of files that were compared. */
  readonly files: number;
  /** Files that are missing or differ from the hub's. */
  readonly damaged: readonly FileProblem[];
  /** Files without a known checksum, such as those that kagglehub downloaded: they cannot be verified. */
  readonly unknown: readonly string[];
}

/** Options of {@link verifyCachedPresets}. */
export interface VerifyOptions {
  /** Removes damaged files, so that the next download fetches only these. Defaults to false. */
  repair?: boolean;
  signal?: AbortSignal;
}

/** Implements `verifyCachedPresets` of on_demand.ts; see there for errors. */
export async function verifyCachedPresets(
  name?: string,
  {repair = false, signal}: VerifyOptions = {},
): Promise<VerifiedPreset[]> {
  const models = name === undefined ? await cachedPresets() : await chosen(name);
  const verified: VerifiedPreset[] = [];
  for (const model of models) {
    const {files, damaged, unknown} = await hubOf(model.name)!.verify(model, repair, signal);
    verified.push({...model, files, damaged, unknown});
  }
  return verified;
}

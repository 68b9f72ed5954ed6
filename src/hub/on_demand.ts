/** Downloads and their cache. A page that only opens presets loads none of this code. */
import {type VerifiedPreset, type VerifyOptions} from './cache';
import {type DownloadedPreset, type DownloadOptions} from './download_preset';
import {type CachedModel} from './hub';

export type {VerifiedPreset, VerifyOptions} from './cache';
export type {DownloadedPreset, DownloadOptions} from './download_preset';

/**
 * Downloads a model: from Kaggle or Hugging Face into the cache that their Python libraries use, or into a folder. What is
 * there already is not downloaded again, and a download that was interrupted continues where it stopped.
 *
 * @param name a name of the registry (`gemma3_instruct_1b`), `kaggle://…`, `hf://…`, or the http(s) address of a preset's
 *   folder.
 * @throws ValueError if there is no such model, its licence was not accepted, or it does not fit on the disk. Error if the
 *   connection fails again and again, or the bytes do not match the hub's checksums.
 */
export async function downloadPreset(name: string, options: DownloadOptions = {}): Promise<DownloadedPreset> {
  return (await import('./download_preset')).downloadPreset(name, options);
}

/** The models in the caches that this package shares with kagglehub and huggingface_hub. */
export async function cachedPresets(): Promise<CachedModel[]> {
  return (await import('./cache')).cachedPresets();
}

/**
 * Removes a model from the cache. Other tools that share it lose it too.
 *
 * @param name as returned by {@link cachedPresets}, or a name of the registry.
 * @returns the models that were removed.
 * @throws ValueError if the cache has no such model, or it is being downloaded, here or by another process.
 */
export async function removeCachedPreset(name: string): Promise<CachedModel[]> {
  return (await import('./cache')).removeCachedPreset(name);
}

/**
 * Compares files in the cache with their checksums.
 *
 * @param name a model; undefined for all of them.
 * @throws ValueError if the cache has no such model.
 */
export async function verifyCachedPresets(name?: string, options: VerifyOptions = {}): Promise<VerifiedPreset[]> {
  return (await import('./cache')).verifyCachedPresets(name, options);
}

/** Saving, and files with only weights. A page that only generates text loads none of this code. */
import {type loadWeightsFile as Load, type saveWeightsFile as Save} from './weights_file';
import {type otherWeights as OtherWeights} from './other_weights';
import {type savePreset as SavePreset} from './write_preset';

export type {LoadWeightsOptions, SaveWeightsOptions} from './weights_file';
export type {SaveToPresetOptions} from './write_preset';

export const savePreset: typeof SavePreset = async (...args) => (await import('./write_preset')).savePreset(...args);

export const otherWeights = async (
  ...args: Parameters<typeof OtherWeights>
): Promise<ReturnType<typeof OtherWeights>> => (await import('./other_weights')).otherWeights(...args);

export const saveWeightsFile: typeof Save = async (...args) =>
  (await import('./weights_file')).saveWeightsFile(...args);

export const loadWeightsFile: typeof Load = async (...args) =>
  (await import('./weights_file')).loadWeightsFile(...args);

/** Checks of prompts with images, which run before a model is loaded. */
import type {BackendName, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';

/** A prompt and the paths of its images. */
export interface ImagePrompt {
  prompts: string;
  images: string[];
}

/**
 * Loads the preprocessor of a preset that accepts images.
 *
 * @throws Error for a text-only preset.
 */
export async function imagePreprocessor(preset: string, backend: BackendName): Promise<Gemma3CausalLMPreprocessor> {
  const {Gemma3CausalLMPreprocessor, useBackend} = await import('tfjs-gemma3');
  await useBackend(backend);
  const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset(preset);
  refuseTextOnly(preprocessor, preset, 'Leave out --image.');
  return preprocessor;
}

/** @throws Error unless the model accepts images. */
export function refuseTextOnly(
  preprocessor: Gemma3CausalLMPreprocessor,
  preset: string,
  advice = 'Ask without images.',
): void {
  if (!preprocessor.textOnlyModel) return;
  throw new Error(`Expected a preset that accepts images. Received: "${preset}", which is text-only. ${advice}`);
}

/** @throws ValueError for files that are not images, and if images and prompt do not match. */
export async function checkImages(
  preprocessor: Gemma3CausalLMPreprocessor,
  prompt: ImagePrompt,
  sequenceLength?: number,
): Promise<void> {
  const {images} = await preprocessor.promptTokens(prompt, {sequenceLength});
  for (const tensor of images) tensor?.dispose();
}

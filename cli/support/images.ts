/** Images that prompts are about, looked at before a model is. */
import type {BackendName, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';

/** A prompt with the files of its images. */
export interface Question {
  prompts: string;
  images: string[];
}

/**
 * The preprocessor of a preset that takes images.
 *
 * @throws Error for a preset of text alone.
 */
export async function imagePreprocessor(preset: string, backend: BackendName): Promise<Gemma3CausalLMPreprocessor> {
  const {Gemma3CausalLMPreprocessor, useBackend} = await import('tfjs-gemma3');
  await useBackend(backend);
  const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset(preset);
  refuseTextAlone(preprocessor, preset, 'Leave out --image.');
  return preprocessor;
}

/** @throws Error unless the model takes images. */
export function refuseTextAlone(
  preprocessor: Gemma3CausalLMPreprocessor,
  preset: string,
  advice = 'Ask without images.',
): void {
  if (!preprocessor.textOnlyModel) return;
  throw new Error(`Expected a preset that takes images. Received: "${preset}", which is of text alone. ${advice}`);
}

/** @throws ValueError for files that are no images, and for images that the prompt does not fit. */
export async function checkImages(
  preprocessor: Gemma3CausalLMPreprocessor,
  question: Question,
  sequenceLength?: number,
): Promise<void> {
  const {images} = await preprocessor.promptTokens(question, {sequenceLength});
  for (const tensor of images) tensor?.dispose();
}

/** Checks of prompts with images, which run before a model is loaded. */
import type {BackendName, Gemma3CausalLMPreprocessor, ImageOrientation} from 'tfjs-gemma3';

import {openingOf, type PresetOptions} from './preset_options';

/** A prompt and the paths of its images. */
export interface ImagePrompt {
  prompts: string;
  images: string[];
}

/** Options of the commands that read images. */
export interface ImageOptions extends PresetOptions {
  imageOrientation?: ImageOrientation;
}

/**
 * Loads the preprocessor of a preset.
 *
 * @throws ValueError for an `imageOrientation` if the preset is text-only.
 */
export async function loadPreprocessor(
  preset: string,
  {imageOrientation, sequenceLength, ...options}: ImageOptions & {sequenceLength?: number} = {},
): Promise<Gemma3CausalLMPreprocessor> {
  const {Gemma3CausalLMPreprocessor, Gemma3ImageConverter} = await import('tfjs-gemma3');
  const opening = openingOf(options);
  const imageConverter =
    imageOrientation && (await Gemma3ImageConverter.fromPreset(preset, {imageOrientation, ...opening}));
  return Gemma3CausalLMPreprocessor.fromPreset(preset, {
    ...opening,
    ...(sequenceLength !== undefined && {sequenceLength}),
    ...(imageConverter && {imageConverter}),
  });
}

/**
 * Loads the preprocessor of a preset that accepts images.
 *
 * @throws Error for a text-only preset.
 */
export async function imagePreprocessor(
  preset: string,
  backend: BackendName,
  {threads, ...options}: ImageOptions & {threads?: number},
): Promise<Gemma3CausalLMPreprocessor> {
  const {useBackend} = await import('tfjs-gemma3');
  await useBackend(backend, threads ? {threads} : {});
  const preprocessor = await loadPreprocessor(preset, options);
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

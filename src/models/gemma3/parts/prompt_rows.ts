/** Texts and images, as the user passes them, as rows of token ids. */
import {checkKeys, show, ValueError} from '../../../base/errors';
import {type ImageReader} from '../../../images/image_like';
import {type Conversations, isConversations} from '../../../tokenizers/conversations';
import {type Gemma3Tokenizer} from '../gemma3_tokenizer';
import {conversationPrompts} from './conversation_prompts';
import {checkImageCounts, expandImageTokens, imageReaders, type PromptImages} from './prompt_images';

/** Prompts with responses and images. Prompts and responses are one string each, or lists of the same length. */
export interface PromptsAndResponses {
  /** `<start_of_image>` marks the place of each image. */
  prompts: string | readonly string[];
  /** Required for training, one per prompt. */
  responses?: string | readonly string[];
  /** The images of the prompt, or one entry per prompt: see {@link PromptImages}. */
  images?: PromptImages;
}

/**
 * The prompts of `generatePreprocess`, with or without images. A conversation counts as one prompt: its text in Gemma's
 * chat template, up to the start of the answer.
 */
export type GenerationInputs = string | readonly string[] | PromptsAndResponses | Conversations;

/** The given texts and images, as rows. */
export interface Rows {
  /** Token ids of each row: [prompt] or [prompt, response]. */
  segments: number[][][];
  /** Functions that read the images of each row; null without images. */
  readers: ImageReader[][] | null;
  scalar: boolean;
}

/** The settings of a preprocessor for rows. */
interface RowSettings {
  tokenizer: Gemma3Tokenizer;
  textOnlyModel: boolean;
  maxImagesPerPrompt: number;
  numVisionTokensPerImage: number;
}

/** @throws ValueError unless each prompt has a response. */
export function trainingRows(x: PromptsAndResponses, settings: RowSettings): Rows {
  const rows = rowsOf(x, settings);
  if (rows.segments.some(row => row.length < 2)) {
    throw new ValueError('Expected {prompts, responses} for training. Received no responses.');
  }
  return rows;
}

/** @throws ValueError on unusable prompts, and on images that do not match them. */
export function generationRows(x: GenerationInputs, settings: RowSettings): Rows {
  if (isConversations(x)) return rowsOf(conversationPrompts(x, settings.tokenizer), settings);
  const named = typeof x === 'object' && x !== null && !Array.isArray(x);
  return rowsOf((named ? x : {prompts: x}) as PromptsAndResponses, settings);
}

function rowsOf(x: PromptsAndResponses, settings: RowSettings): Rows {
  checkKeys('Gemma3CausalLMPreprocessor', x, ['prompts', 'responses', 'images']);
  const {prompts, responses, images = null} = x;
  const scalar = typeof prompts === 'string';
  const texts = [prompts].flat() as string[];
  const answers = responses === undefined ? undefined : ([responses].flat() as string[]);
  const invalid = [...texts, ...(answers ?? [])].findIndex(text => typeof text !== 'string');
  if (invalid >= 0 || texts.length === 0) {
    const received = texts.length === 0 ? prompts : [...texts, ...(answers ?? [])][invalid];
    throw new ValueError(
      'Expected prompts as a string or a list of strings, at least one, or {prompts[, responses][, images]}. ' +
        `Received: ${show(received)}.`,
    );
  }
  if (answers && (answers.length !== texts.length || (typeof responses === 'string') !== scalar)) {
    throw new ValueError(
      `Expected one response per prompt. Received: ${texts.length} prompts, ${answers.length} responses.`,
    );
  }
  const {tokenizer, numVisionTokensPerImage, maxImagesPerPrompt, textOnlyModel} = settings;
  if (images !== null && textOnlyModel) {
    throw new ValueError('The initialized preprocessor/model is text-only, but `images` is not null.');
  }
  const readers = images === null ? null : imageReaders(images, texts.length, scalar);
  // To a text-only model, the tokens of images are text, as in KerasHub.
  if (!textOnlyModel) checkImageCounts({prompts: texts, responses: answers}, readers, tokenizer, maxImagesPerPrompt);
  const segments = texts.map((text, i) => {
    const prompt = textOnlyModel ? text : expandImageTokens(text, tokenizer, numVisionTokensPerImage);
    return [prompt, ...(answers ? [answers[i]!] : [])].map(part => tokenizer.tokenize(part));
  });
  return {segments, readers, scalar};
}

/** @throws ValueError if a row was cut within its images: the model cannot answer about a part of an image. */
export function checkWholeImages(
  rows: readonly (readonly number[])[],
  readers: readonly (readonly ImageReader[])[] | null,
  length: number,
  {tokenizer, numVisionTokensPerImage}: RowSettings,
): void {
  readers?.forEach((images, i) => {
    const expected = images.length * numVisionTokensPerImage;
    const received = rows[i]!.filter(id => id === tokenizer.imagePlaceholderId).length;
    if (received === expected) return;
    throw new ValueError(
      `Expected room for the ${expected} tokens of the images in prompt ${i}. Received: ${received} of them within ` +
        `the sequence length, ${length}. Increase it: \`maxLength\` for generation.`,
    );
  });
}

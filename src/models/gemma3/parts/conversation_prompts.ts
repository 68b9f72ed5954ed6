/** Conversations as prompts with their images. */
import {
  checkTurnTokens,
  type Conversations,
  imagesOf,
  isConversation,
  listOfConversations,
  promptOf,
} from '../../../tokenizers/conversations';
import {type Gemma3Tokenizer} from '../gemma3_tokenizer';
import {type ImagesOfPrompt, type PromptImages} from './prompt_images';

/**
 * Each conversation as one prompt, up to the start of the answer.
 *
 * @throws ValueError for a vocabulary without turn tokens, and as `promptOf`.
 */
export function conversationPrompts(
  x: Conversations,
  tokenizer: Gemma3Tokenizer,
): {prompts: string | string[]; images?: PromptImages} {
  checkTurnTokens(tokenizer);
  const list = listOfConversations(x);
  const prompts = list.map(promptOf);
  const images = list.map(imagesOf) as ImagesOfPrompt[][];
  const any = images.some(({length}) => length > 0);
  if (isConversation(x)) return {prompts: prompts[0]!, ...(any && {images: images[0]! as PromptImages})};
  return {prompts, ...(any && {images: images as PromptImages})};
}

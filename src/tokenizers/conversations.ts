/** Conversations, as lists of messages, used as prompts and as training texts. */
import {show, ValueError} from '../base/errors';
import {warnOnce} from '../base/warn_once';
import {applyChatTemplate, type ChatMessage, END_OF_TURN, START_OF_TURN, trimmed} from './chat_template';

/** The messages of one conversation, or of several. */
export type Conversations = readonly ChatMessage[] | readonly (readonly ChatMessage[])[];

const isMessage = (x: unknown) => typeof x === 'object' && x !== null && ('role' in x || 'content' in x);

/** Whether a value is the list of messages of one conversation. */
export const isConversation = (x: unknown): x is readonly ChatMessage[] =>
  Array.isArray(x) && x.length > 0 && isMessage(x[0]);

/** Whether a value is a conversation, or a list of them. */
export const isConversations = (x: unknown): x is Conversations =>
  isConversation(x) || (Array.isArray(x) && x.length > 0 && isConversation(x[0]));

/** A list of conversations, from one conversation or several. */
export const listOfConversations = (x: Conversations): readonly (readonly ChatMessage[])[] =>
  isConversation(x) ? [x] : (x as readonly (readonly ChatMessage[])[]);

/** The images of messages, in their order. */
export const imagesOf = (messages: readonly ChatMessage[]): unknown[] =>
  messages.flatMap(({content}) =>
    typeof content === 'string' ? [] : content.flatMap(part => (part.type === 'image' ? [part.image] : [])),
  );

/** The part of a tokenizer that knows its tokens by name. */
interface NamedTokens {
  /** The file of a chat template that is not Gemma's, if the tokenizer came with one. */
  readonly foreignChatTemplate?: string | null;
  tokenToId(token: string): number;
  idToToken(id: number): string;
}

/** Warns once that conversations are not written in the template that came with the tokenizer. */
export function warnOfTemplate({foreignChatTemplate}: Pick<NamedTokens, 'foreignChatTemplate'>): void {
  if (foreignChatTemplate == null) return;
  warnOnce(
    `The chat template in ${foreignChatTemplate} is not the one of Gemma 3. Templates are programs, which are not ` +
      'run here: conversations are written as by `applyChatTemplate`. If the model was trained on a different ' +
      'format, write its prompts yourself and pass them as texts.',
  );
}

/**
 * Checks that a tokenizer can write conversations. Warns if they are not written in the model's own template.
 *
 * @throws ValueError for a vocabulary without the tokens that start and end turns.
 */
export function checkTurnTokens(tokenizer: NamedTokens): void {
  warnOfTemplate(tokenizer);
  if ([START_OF_TURN, END_OF_TURN].every(token => tokenizer.idToToken(tokenizer.tokenToId(token)) === token)) return;
  throw new ValueError(
    `Expected a vocabulary with ${START_OF_TURN} and ${END_OF_TURN}. Received: a vocabulary without them, from a ` +
      'model that was not trained on conversations. Use `generate` with texts, or an instruction-tuned preset.',
  );
}

/**
 * The text that asks for the next answer of a conversation.
 *
 * @throws ValueError unless the last message is the user's; otherwise as `applyChatTemplate`.
 */
export function promptOf(messages: readonly ChatMessage[]): string {
  const text = applyChatTemplate(messages, {addGenerationPrompt: true});
  const {role} = messages.at(-1)!;
  if (role === 'user') return text;
  throw new ValueError(
    `Expected a user message at the end of a conversation, to be answered. Received: one with the role ${show(role)}.`,
  );
}

/** A text for training, and the messages before it. */
export interface AnsweredPrompt {
  /** The messages before the answer in Gemma's chat template, up to the start of the answer. */
  prompt: string;
  /** The answer, with the token that ends its turn. */
  response: string;
  /** The images of these messages, in their order. */
  images: unknown[];
}

/**
 * The answers of a conversation, each with everything before it as its prompt: the examples that `fit` makes from
 * messages.
 *
 * @throws ValueError unless the last message is an answer, and on images in an answer; otherwise as
 * `applyChatTemplate`.
 */
export function answersOf(messages: readonly ChatMessage[]): AnsweredPrompt[] {
  applyChatTemplate(messages);
  if (messages.at(-1)!.role === 'user') {
    throw new ValueError(
      'Expected an answer at the end of a conversation for training. Received: a message with the role "user".',
    );
  }
  return messages.flatMap(({role, content}, i) => {
    if (role !== 'assistant' && role !== 'model') return [];
    const before = messages.slice(0, i);
    return [{prompt: promptOf(before), response: answerText(content) + END_OF_TURN, images: imagesOf(before)}];
  });
}

/**
 * The text of an answer.
 *
 * @throws ValueError on images.
 */
export function answerText(content: ChatMessage['content']): string {
  if (typeof content === 'string') return trimmed(content);
  return content
    .map(part => {
      if (part.type === 'text') return trimmed(part.text);
      throw new ValueError('Expected answers without images, which the model does not write. Received: an image.');
    })
    .join('');
}

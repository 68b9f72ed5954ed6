/**
 * Turns of a conversation as text, as Gemma 3 was tuned on them: the `chat_template` that Google publishes in
 * tokenizer_config.json beside the weights (https://huggingface.co/google/gemma-3-1b-it).
 */
import {checkKeys, show, ValueError} from '../base/errors';

export interface TextPart {
  type: 'text';
  text: string;
}

/** An image in its place among texts. */
export interface ImagePart {
  type: 'image';
  /** As the preprocessor takes it; the template itself only marks the place. */
  image?: unknown;
}

export interface ChatMessage {
  /** "model" is what Gemma calls the assistant. A system message can only be the first. */
  role: 'system' | 'user' | 'assistant' | 'model';
  content: string | readonly (TextPart | ImagePart)[];
}

export interface ChatTemplateOptions {
  /** Begin the model's answer behind the last message. Defaults to false. */
  addGenerationPrompt?: boolean;
  /**
   * Take texts as they are if they contain control tokens, with which who wrote them can end a turn and speak as the model.
   * Defaults to false: such texts are refused.
   */
  allowControlTokens?: boolean;
}

export const START_OF_TURN = '<start_of_turn>';
export const END_OF_TURN = '<end_of_turn>';
const START_OF_IMAGE = '<start_of_image>';
const CONTROL_TOKENS = [START_OF_TURN, END_OF_TURN, START_OF_IMAGE, '<end_of_image>'];

/**
 * The text of a conversation, without `<bos>`, which the preprocessor puts in front. Texts lose white space at their ends,
 * a system message goes in front of the first user's, separated by an empty line.
 *
 *     applyChatTemplate([{role: 'user', content: 'Hi'}], {addGenerationPrompt: true})
 *     // '<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n'
 *
 * @throws ValueError unless users and the model take turns, the user first; on control tokens in texts, and unknown options.
 */
export function applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
  checkKeys('applyChatTemplate', options, ['addGenerationPrompt', 'allowControlTokens']);
  const {addGenerationPrompt = false, allowControlTokens = false} = options;
  if (!Array.isArray(messages)) {
    throw new ValueError(`Expected messages, a list of {role, content}. Received: ${show(messages)}.`);
  }
  const system = messages[0]?.role === 'system' ? messages[0] : undefined;
  const turns = system ? messages.slice(1) : messages;
  if (turns.length === 0) throw new ValueError('Expected a message of the user. Received: none.');
  const texts = turns.map((message, i) => {
    checkRole(message, i);
    const role = message.role === 'user' ? 'user' : 'model';
    return `${START_OF_TURN}${role}\n${i === 0 ? systemText(system, allowControlTokens) : ''}${contentText(message, allowControlTokens)}${END_OF_TURN}\n`;
  });
  return texts.join('') + (addGenerationPrompt ? `${START_OF_TURN}model\n` : '');
}

function checkRole({role}: ChatMessage, i: number): void {
  const expected = i % 2 === 0 ? ['user'] : ['assistant', 'model'];
  if (expected.includes(role)) return;
  throw new ValueError(
    'Conversation roles must alternate user/assistant/user/assistant/..., behind a system message if there is one. ' +
      `Received: ${show(role)} as number ${i + 1}, where ${show(expected[0])} was expected.`,
  );
}

/** Google's template takes the whole of a system text, but of parts the first alone; here all parts count. */
function systemText(system: ChatMessage | undefined, allowControlTokens: boolean): string {
  if (!system) return '';
  const {content} = system;
  const parts = typeof content === 'string' ? [{type: 'text', text: content} as const] : checkedParts(content);
  const texts = parts.map(part => {
    if (part.type === 'text') return checkedText(part.text, allowControlTokens);
    throw new ValueError(
      'Expected a system message of text alone. Received: an image. Put it into a message of the user.',
    );
  });
  return `${texts.join('')}\n\n`;
}

function contentText({content}: ChatMessage, allowControlTokens: boolean): string {
  if (typeof content === 'string') return checkedText(content, allowControlTokens).trim();
  return checkedParts(content)
    .map(part => (part.type === 'image' ? START_OF_IMAGE : checkedText(part.text, allowControlTokens).trim()))
    .join('');
}

function checkedParts(content: unknown): (TextPart | ImagePart)[] {
  const parts = content as (TextPart | ImagePart)[];
  if (!Array.isArray(content) || !parts.every(part => part?.type === 'text' || part?.type === 'image')) {
    throw new ValueError(
      `Expected the content of a message to be a text, or parts {type: "text", text} and {type: "image"}. Received: ` +
        `${show(content)}.`,
    );
  }
  return parts;
}

function checkedText(text: unknown, allowControlTokens: boolean): string {
  if (typeof text !== 'string') throw new ValueError(`Expected the text of a message. Received: ${show(text)}.`);
  const token = allowControlTokens ? undefined : CONTROL_TOKENS.find(control => text.includes(control));
  if (token === undefined) return text;
  throw new ValueError(
    `Expected messages without control tokens, which begin and end turns and images. Received: ${show(text)} with ` +
      `${token}. Leave it out, or set allowControlTokens if whoever wrote the text may do that.`,
  );
}

/**
 * Conversations as text, in the form that Gemma 3 was tuned on: the `chat_template` that Google publishes in
 * tokenizer_config.json with the weights (https://huggingface.co/google/gemma-3-1b-it).
 */
import {checkKeys, show, ValueError} from '../base/errors';

export interface TextPart {
  type: 'text';
  text: string;
}

/** An image between texts. */
export interface ImagePart {
  type: 'image';
  /** The image for the preprocessor; the template only marks its place. */
  image?: unknown;
}

export interface ChatMessage {
  /** "model" is Gemma's name for the assistant. Only the first message may be a system message. */
  role: 'system' | 'user' | 'assistant' | 'model';
  content: string | readonly (TextPart | ImagePart)[];
}

/** A message that does not change when the given one does. Images are not copied. */
export const copyMessage = ({role, content}: ChatMessage): ChatMessage => ({
  role,
  content: typeof content === 'string' ? content : content.map(part => ({...part})),
});

export interface ChatTemplateOptions {
  /** Start the model's answer after the last message. Defaults to false. */
  addGenerationPrompt?: boolean;
  /**
   * Accept texts with control tokens. With these, the author of a text can end a turn and speak as the model. Defaults
   * to false: such texts are refused.
   */
  allowControlTokens?: boolean;
}

export const START_OF_TURN = '<start_of_turn>';
export const END_OF_TURN = '<end_of_turn>';
export const START_OF_IMAGE = '<start_of_image>';
/**
 * Tokens that start and end texts, turns and images. `<image_soft_token>` is Hugging Face's placeholder for an image.
 * KerasHub's vocabulary never recognizes `<bos>`, `<eos>` and `<pad>` in a text, but other tokenizers do.
 */
const CONTROL_TOKENS = [
  ...[START_OF_TURN, END_OF_TURN, START_OF_IMAGE, '<end_of_image>', '<image_soft_token>'],
  ...['<bos>', '<eos>', '<pad>'],
];

/**
 * The text of a conversation, without `<bos>`, which the preprocessor adds. Whitespace around texts is removed, as
 * Python's `strip` does. A system message is placed before the first user message, separated by an empty line.
 *
 *     applyChatTemplate([{role: 'user', content: 'Hi'}], {addGenerationPrompt: true})
 *     // '<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n'
 *
 * @throws ValueError unless user and model alternate, starting with the user; on control tokens in texts, and on
 * unknown options and keys of messages, such as Ollama's `images`.
 */
export function applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
  checkKeys('applyChatTemplate', options, ['addGenerationPrompt', 'allowControlTokens']);
  const {addGenerationPrompt = false, allowControlTokens = false} = options;
  if (!Array.isArray(messages)) {
    throw new ValueError(`Expected messages as a list of {role, content}. Received: ${show(messages)}.`);
  }
  for (const message of messages as unknown[]) checkKeys('A message', message as object, ['role', 'content']);
  const system = messages[0]?.role === 'system' ? messages[0] : undefined;
  const turns = system ? messages.slice(1) : messages;
  if (turns.length === 0) throw new ValueError('Expected a user message. Received: none.');
  const texts = turns.map((message, i) => {
    checkRole(message, i);
    const role = message.role === 'user' ? 'user' : 'model';
    const text = (i === 0 ? systemText(system, allowControlTokens) : '') + contentText(message, allowControlTokens);
    return `${START_OF_TURN}${role}\n${text}${END_OF_TURN}\n`;
  });
  return texts.join('') + (addGenerationPrompt ? `${START_OF_TURN}model\n` : '');
}

function checkRole({role}: ChatMessage, i: number): void {
  const expected = i % 2 === 0 ? ['user'] : ['assistant', 'model'];
  if (expected.includes(role)) return;
  throw new ValueError(
    'Conversation roles must alternate user/assistant/user/assistant/..., after an optional system message. ' +
      `Received: ${show(role)} as turn ${i + 1}, where ${show(expected[0])} was expected.`,
  );
}

/** If a system message consists of parts, Google's template uses only the first one. Here all parts are used. */
function systemText(system: ChatMessage | undefined, allowControlTokens: boolean): string {
  if (!system) return '';
  const {content} = system;
  const parts = typeof content === 'string' ? [{type: 'text', text: content} as const] : checkedParts(content);
  const texts = parts.map(part => {
    if (part.type === 'text') return part.text;
    throw new ValueError('Expected a system message of text only. Received: an image. Put it into a user message.');
  });
  return `${checkedText(texts, allowControlTokens)}\n\n`;
}

function contentText({content}: ChatMessage, allowControlTokens: boolean): string {
  if (typeof content === 'string') return checkedText([trimmed(content)], allowControlTokens);
  // Texts between two images become one text, so a control token may be spread over several parts.
  const runs: unknown[][] = [[]];
  for (const part of checkedParts(content)) {
    if (part.type === 'image') runs.push([]);
    else runs.at(-1)!.push(typeof part.text === 'string' ? trimmed(part.text) : part.text);
  }
  return runs.map(run => checkedText(run, allowControlTokens)).join(START_OF_IMAGE);
}

/** Text without whitespace at both ends, as Jinja's `trim` returns it: Python's idea of whitespace, not JavaScript's. */
export function trimmed(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && PYTHON_SPACE.test(text[start]!)) start++;
  while (end > start && PYTHON_SPACE.test(text[end - 1]!)) end--;
  return text.slice(start, end);
}
// Unlike JavaScript's \s: with U+001C to U+001F and U+0085, without U+FEFF.
const PYTHON_SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

function checkedParts(content: unknown): (TextPart | ImagePart)[] {
  const parts = content as (TextPart | ImagePart)[];
  if (!Array.isArray(content) || !parts.every(part => part?.type === 'text' || part?.type === 'image')) {
    throw new ValueError(
      'Expected the content of a message to be a string, or parts {type: "text", text} and {type: "image"}. ' +
        `Received: ${show(content)}.`,
    );
  }
  for (const part of parts) checkKeys(`A part of type "${part.type}"`, part, ['type', part.type]);
  return parts;
}

/** Joins texts that follow one another, and checks the result: this is what the model reads. */
function checkedText(texts: readonly unknown[], allowControlTokens: boolean): string {
  const invalid = texts.findIndex(text => typeof text !== 'string');
  if (invalid >= 0) {
    throw new ValueError(`Expected the text of a message to be a string. Received: ${show(texts[invalid])}.`);
  }
  const text = texts.join('');
  const token = allowControlTokens ? undefined : CONTROL_TOKENS.find(control => text.includes(control));
  if (token === undefined) return text;
  throw new ValueError(
    `Expected messages without control tokens, which start and end texts, turns and images. Received: ${show(text)} ` +
      `with ${token}. Leave it out, or set allowControlTokens if you trust the author of the text.`,
  );
}

/**
 * Every text in Google's template, in order, and every call of `trim`. A template that writes these in this order
 * produces the same text as `applyChatTemplate`, however it is formatted.
 */
const GEMMA_TEXTS = [
  ...['system', '\n\n', '\n\n', '', 'user', 'assistant', 'model', START_OF_TURN, '\n', '', '|trim'],
  ...['image', START_OF_IMAGE, 'text', '|trim', `${END_OF_TURN}\n`, `${START_OF_TURN}model\n`],
];

/** Whether a Jinja template is Google's for Gemma 3, as written by `applyChatTemplate`. It is not executed. */
export function isGemmaTemplate(template: string): boolean {
  const plain = template.replace(/\[['"]\w+['"]\]/g, '').replace(/raise_exception\([^)]*\)/g, '');
  const texts = [...plain.matchAll(/'([^']*)'|"([^"]*)"|(\|\s*trim\b)/g)].map(([, single, double, trim]) =>
    trim === undefined ? (single ?? double)!.replaceAll('\\n', '\n') : '|trim',
  );
  return texts.join('\0') === GEMMA_TEXTS.join('\0');
}

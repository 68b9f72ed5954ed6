/** Prompts on standard input as JSON Lines, for programs that keep one model loaded for many prompts. */
import {addAbortSignal} from 'node:stream';
import type {ChatMessage} from 'tfjs-gemma3';
import {type ImagePrompt} from './images';
import {type Io} from './io';
import {decodeUtf8} from './utf8';

/** The request in a line. */
export interface LinePrompt {
  /** Copied to the answer, if present. */
  id?: unknown;
  /** What `generate` of the model takes. */
  prompt: string | ChatMessage[] | ImagePrompt;
}

const FORM =
  '{"prompt": "…"}, with images also "images": ["FILE", …]; or {"messages": [{"role": "user", "content": "…"}, …]}';
const KEYS = ['id', 'prompt', 'images', 'messages'];

/**
 * The lines of standard input as they arrive, without those that are empty, each with its number from 1. The text is
 * returned by a function, so that bytes in another encoding are reported as an error of their line.
 *
 * Only line feeds separate lines: readline would also cut at U+2028, which JSON allows inside a string.
 */
export async function* stdinLines(io: Io): AsyncGenerator<{line: number; text: () => string}> {
  let [rest, line] = [Buffer.alloc(0), 0];
  const one = (bytes: Buffer) => {
    line += 1;
    const here = line;
    return bytes.every(byte => byte === 0x20 || byte === 0x0d || byte === 0x09)
      ? []
      : [{line: here, text: () => decodeUtf8(bytes, `line ${here} of standard input`)}];
  };
  for await (const chunk of addAbortSignal(io.signal, io.stdin) as AsyncIterable<Buffer | string>) {
    rest = Buffer.concat([rest, Buffer.from(chunk as string)]);
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      const bytes = rest.subarray(0, end);
      rest = rest.subarray(end + 1);
      yield* one(bytes);
    }
  }
  yield* one(rest);
}

/**
 * Reads one line as a prompt.
 *
 * @throws Error that says what is wrong with the line. Its property `id` is that of the line, if it could be read.
 */
export function parsePromptLine(text: string): LinePrompt {
  const value = parseJson(text);
  if (!isObject(value)) throw refusal(shown(text));
  const given = value as Record<string, unknown>;
  const {id, prompt, images, messages} = given;
  const refuse = (received: string): never => {
    throw Object.assign(refusal(received), id === undefined ? {} : {id});
  };
  const unknown = Object.keys(given).find(key => !KEYS.includes(key));
  if (unknown !== undefined) refuse(`the key "${unknown}". Put anything to copy to the answer into "id"`);
  const named = id === undefined ? {} : {id};
  if (messages !== undefined) {
    if (prompt !== undefined || images !== undefined) {
      refuse(`"messages" and "${prompt !== undefined ? 'prompt' : 'images'}". Images of messages are parts of them`);
    }
    // `generate` would read texts and lists as several prompts.
    if (!Array.isArray(messages) || messages.length === 0 || !messages.every(isObject)) {
      refuse('"messages" that are not a list of messages');
    }
    return {...named, prompt: messages as ChatMessage[]};
  }
  if (typeof prompt !== 'string')
    return refuse(prompt === undefined ? 'no "prompt"' : 'a "prompt" that is not a string');
  if (images === undefined) return {...named, prompt};
  if (!Array.isArray(images) || !images.every(file => typeof file === 'string' && file !== '')) {
    return refuse('"images" that are not a list of file names');
  }
  return {...named, prompt: {prompts: prompt, images: images as string[]}};
}

const isObject = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw refusal(`${shown(text)}, which is not JSON: ${(error as Error).message}`);
  }
}

const refusal = (received: string) => new Error(`Expected ${FORM}. Received: ${received}.`);

const shown = (text: string) => (text.length > 80 ? `${text.slice(0, 80)}…` : text);

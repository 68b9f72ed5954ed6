/** Training examples in files. Errors name the line. */
import {readFile} from 'node:fs/promises';
import {dirname, resolve} from 'node:path';
import type {ChatMessage, TrainingTexts} from 'tfjs-gemma3';
import {plural} from './format';
import {type DataRecord, readRecords} from './training_records';
import {decodeUtf8} from './utf8';

/** One example. */
export interface Example {
  /** Line number in the file, from 1. */
  line: number;
  prompt: string;
  response: string;
  /** Absolute paths. */
  images: string[];
  /** True if the prompt is in the chat template already. */
  templated: boolean;
}

/** The examples of a file, and what they were read from. */
export interface ExampleFile {
  examples: Example[];
  /** Format of the file and kinds of its records, for the user. */
  description: string;
}

const FORM = '{"prompt": "…", "response": "…"}, with images also "image": "FILE" or "images": ["FILE", …]';
const FORMS = `${FORM}; {"messages": [{"role": "user", "content": "…"}, …]}; or {"instruction": "…", "input": "…", "output": "…"}`;

const KINDS = {
  messages: {name: 'messages', keys: ['messages']},
  alpaca: {name: 'instruction and output', keys: ['instruction', 'input', 'output', 'system', 'image', 'images']},
  pairs: {
    name: 'prompt and response',
    keys: ['prompt', 'prompts', 'response', 'responses', 'completion', 'image', 'images'],
  },
} as const;

type Kind = keyof typeof KINDS;

const COLUMNS = [...new Set(Object.values(KINDS).flatMap(({keys}) => [...keys]))].filter(
  key => !['input', 'system', 'image', 'images'].includes(key),
);

/** Functions of the package that turn conversations into examples. */
type AnswersOf = (messages: readonly ChatMessage[]) => {prompt: string; response: string; images: unknown[]}[];

/**
 * Reads the examples of a file. Skips empty lines and resolves relative paths of images against the folder of the file.
 *
 * @throws Error if the file cannot be read or has no examples, and on the first invalid line.
 */
export async function readExamples(path: string): Promise<ExampleFile> {
  const bytes = await readFile(path).catch((error: Error) => {
    throw new Error(`Expected a file with examples at "${path}". Received: ${error.message}.`);
  });
  const text = decodeUtf8(bytes, `"${path}"`);
  const none = (received: string): never => {
    throw new Error(`Expected examples in "${path}", one per line: ${FORM}. Received: ${received}.`);
  };
  if (text.trim() === '') none(text === '' ? 'an empty file' : 'only empty lines');
  const {format, records, textOnly} = readRecords(text, path, COLUMNS, FORMS);
  if (records.length === 0) none(textOnly ? 'only column names' : 'an empty array');
  const {answersOf} = await import('tfjs-gemma3');
  const kinds = new Set<Kind>();
  const examples = records.flatMap(record => {
    const read = new RecordReader(record, `line ${record.line} of "${path}"`, dirname(path), textOnly, answersOf);
    kinds.add(read.kind);
    return read.examples();
  });
  const names = [...kinds].map(kind => KINDS[kind].name).join(', ');
  return {examples, description: `${plural(examples.length, 'example')} in "${path}": ${format}, ${names}`};
}

/** Reads the examples of one record. */
class RecordReader {
  readonly kind: Kind;
  private readonly given: Record<string, unknown>;

  constructor(
    private readonly record: DataRecord,
    private readonly where: string,
    private readonly folder: string,
    private readonly textOnly: boolean,
    private readonly answersOf: AnswersOf,
  ) {
    const {value} = record;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.refuse(Array.isArray(value) ? `${shown(value)}, an array: write each example as an object` : shown(value));
    }
    // An empty cell of a table is no value, except where a text may be empty.
    const entries = Object.entries(value as object).filter(
      ([key, cell]) => !textOnly || cell !== '' || key === 'prompt',
    );
    this.given = Object.fromEntries(entries);
    this.kind = 'messages' in this.given ? 'messages' : 'instruction' in this.given ? 'alpaca' : 'pairs';
    const {keys} = KINDS[this.kind];
    const unknown = Object.keys(value as object).find(key => !(keys as readonly string[]).includes(key));
    if (unknown === undefined) return;
    const what = textOnly ? 'column' : 'key';
    this.refuse(`the ${what} "${unknown}", which is not one of ${keys.join(', ')}. Remove or rename it`);
  }

  private refuse(received: string): never {
    throw new Error(`Expected ${this.kind === 'pairs' ? FORM : FORMS} in ${this.where}. Received: ${received}.`);
  }

  examples(): Example[] {
    if (this.kind === 'messages') return this.conversation(this.messages());
    if (this.kind === 'alpaca') {
      const {instruction, input, output, system} = this.given;
      const [question, answer] = [this.text('instruction', instruction), this.text('output', output)];
      const more = input === undefined || input === '' ? '' : `\n\n${this.text('input', input)}`;
      const images = this.images();
      return this.conversation([
        ...(system === undefined || system === ''
          ? []
          : [{role: 'system', content: this.text('system', system)} as const]),
        {
          role: 'user',
          content: [...images.map(image => ({type: 'image', image}) as const), {type: 'text', text: question + more}],
        },
        {role: 'assistant', content: answer},
      ]);
    }
    return this.pairs();
  }

  private pairs(): Example[] {
    const prompt = this.only(['prompt', 'prompts']);
    const response = this.only(['response', 'responses', 'completion']);
    const prompts = this.texts(prompt, 'prompt');
    const responses = this.texts(response, 'response');
    if (responses.includes('')) this.refuse(`an empty "${response}", which teaches the model nothing`);
    if (prompts.length !== responses.length && prompts.length !== 1) {
      this.refuse(`${prompts.length} prompts and ${responses.length} responses`);
    }
    const images = this.images();
    if (images.length > 0 && prompts.length > 1) this.refuse('images for several prompts: write one object for each');
    const {line} = this.record;
    return responses.map((text, i) => ({
      line,
      prompt: prompts[prompts.length === 1 ? 0 : i]!,
      response: text,
      images,
      templated: false,
    }));
  }

  /** The one of these keys that the record has; the first if it has none. */
  private only(keys: readonly string[]): string {
    const present = keys.filter(key => this.given[key] !== undefined);
    if (present.length > 1) this.refuse(`both "${present[0]}" and "${present[1]}"`);
    return present[0] ?? keys[0]!;
  }

  private texts(key: string, usual: string): string[] {
    const value = this.given[key];
    if (value === undefined) this.refuse(`no "${usual}"`);
    if (Array.isArray(value) && key.endsWith('s') && value.length > 0) return value.map(one => this.text(key, one));
    return [this.text(key, value)];
  }

  private text(key: string, value: unknown): string {
    if (typeof value === 'string') return value;
    return this.refuse(value === undefined ? `no "${key}"` : `a "${key}" that is not a string`);
  }

  private images(): string[] {
    const {image, images} = this.given;
    if (image !== undefined && images !== undefined) this.refuse('both "image" and "images"');
    const files = (images ?? (image === undefined ? [] : [image])) as unknown;
    const list = this.textOnly && typeof files === 'string' ? [files] : files;
    if (!Array.isArray(list) || !list.every(file => typeof file === 'string' && file !== '')) {
      return this.refuse('images that are not file names');
    }
    return (list as string[]).map(file => resolve(this.folder, file));
  }

  private messages(): ChatMessage[] {
    let {messages} = this.given;
    if (typeof messages === 'string') {
      try {
        messages = JSON.parse(messages) as unknown;
      } catch (error) {
        this.refuse(`"messages" that are not JSON: ${(error as Error).message}`);
      }
    }
    if (!Array.isArray(messages)) this.refuse('"messages" that are not a list');
    return messages as ChatMessage[];
  }

  private conversation(messages: ChatMessage[]): Example[] {
    try {
      return this.answersOf(messages).map(({prompt, response, images}) => ({
        line: this.record.line,
        prompt,
        response,
        images: images.map(image => {
          if (typeof image === 'string' && image !== '') return resolve(this.folder, image);
          return this.refuse('an image that is not a file name: {"type": "image", "image": "FILE"}');
        }),
        templated: true,
      }));
    } catch (error) {
      throw new Error(`In ${this.where}: ${(error as Error).message}`);
    }
  }
}

const shown = (value: unknown) => JSON.stringify(value).replace(/^(.{80}).+$/, '$1…');

/** The examples in the form that `fit` takes. */
export function trainingTexts(examples: readonly Example[]): TrainingTexts & {images?: string[][]} {
  const withImages = examples.some(({images}) => images.length > 0);
  return {
    prompts: examples.map(({prompt}) => prompt),
    responses: examples.map(({response}) => response),
    ...(withImages && {images: examples.map(({images}) => images)}),
  };
}

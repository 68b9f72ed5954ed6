/** Examples for training: lines of JSON, each with what is wrong with it told by its number. */
import {readFile} from 'node:fs/promises';
import {dirname, resolve} from 'node:path';

/** One example; images are paths, those that are not absolute being looked for beside the file. */
export interface Example {
  /** Of the file, from 1. */
  line: number;
  prompt: string;
  response: string;
  images: string[];
}

const KEYS = ['prompt', 'response', 'image', 'images'];
const FORM = '{"prompt": "…", "response": "…"}, with images also "image": "FILE" or "images": ["FILE", …]';

/**
 * The examples of a file, empty lines left out.
 *
 * @throws Error if it cannot be read or has none, and on the first line that is no example.
 */
export async function readExamples(path: string): Promise<Example[]> {
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new Error(`Expected a file of JSON lines at "${path}". Received: ${error.message}.`);
  });
  const examples = text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .flatMap((line, i) =>
      line.trim() === '' ? [] : [parseLine(line, `line ${i + 1} of "${path}"`, i + 1, dirname(path))],
    );
  if (examples.length) return examples;
  throw new Error(
    `Expected examples in "${path}", one a line: ${FORM}. Received: ${text === '' ? 'an empty file' : 'empty lines'}.`,
  );
}

function parseLine(line: string, where: string, number: number, folder: string): Example {
  const refuse = (received: string): never => {
    throw new Error(`Expected ${FORM} in ${where}. Received: ${received}.`);
  };
  const shown = line.trim().replace(/^(.{80}).+$/, '$1…');
  // As many files of examples are: one list, on a line or on many.
  const list = shown.startsWith('[') && `${shown}, a list: write each example on a line of its own, as an object`;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    refuse(list || `${shown}, which is not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(list || shown);
  const {prompt, response, image, images, ...rest} = value as Record<string, unknown>;
  const strange = Object.keys(rest);
  if (strange.length) refuse(`"${strange[0]}", which is none of ${KEYS.join(', ')}`);
  for (const [key, text] of Object.entries({prompt, response})) {
    if (typeof text !== 'string') refuse(text === undefined ? `no "${key}"` : `"${key}" that is no text`);
  }
  if (response === '') refuse('an empty "response", from which nothing can be learnt');
  if (image !== undefined && images !== undefined) refuse('both "image" and "images"');
  const files = images ?? (image === undefined ? [] : [image]);
  if (!Array.isArray(files) || !files.every(file => typeof file === 'string' && file !== '')) {
    refuse('images that are no names of files');
  }
  return {
    line: number,
    prompt: prompt as string,
    response: response as string,
    images: (files as string[]).map(file => resolve(folder, file)),
  };
}

/** What `fit` takes. */
export interface TrainingTexts {
  prompts: string[];
  responses: string[];
  images?: string[][];
}

/** Examples as `fit` takes them. */
export function trainingTexts(examples: readonly Example[]): TrainingTexts {
  const withImages = examples.some(({images}) => images.length > 0);
  return {
    prompts: examples.map(({prompt}) => prompt),
    responses: examples.map(({response}) => response),
    ...(withImages && {images: examples.map(({images}) => images)}),
  };
}

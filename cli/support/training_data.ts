/** Training examples in JSON Lines files. Errors name the line. */
import {readFile} from 'node:fs/promises';
import {dirname, resolve} from 'node:path';
import type {TrainingTexts} from 'tfjs-gemma3';

/** One example. */
export interface Example {
  /** Line number in the file, from 1. */
  line: number;
  prompt: string;
  response: string;
  /** Absolute paths. */
  images: string[];
}

const KEYS = ['prompt', 'response', 'image', 'images'];
const FORM = '{"prompt": "…", "response": "…"}, with images also "image": "FILE" or "images": ["FILE", …]';

/**
 * Reads the examples of a file. Skips empty lines and resolves relative paths of images against the folder of the file.
 *
 * @throws Error if the file cannot be read or has no examples, and on the first invalid line.
 */
export async function readExamples(path: string): Promise<Example[]> {
  const text = await readFile(path, 'utf8').catch((error: Error) => {
    throw new Error(`Expected a JSON Lines file at "${path}". Received: ${error.message}.`);
  });
  const examples = text
    .replace(/^\uFEFF/, '')
    .split('\n')
    .flatMap((line, i) =>
      line.trim() === '' ? [] : [parseLine(line, `line ${i + 1} of "${path}"`, i + 1, dirname(path))],
    );
  if (examples.length) return examples;
  throw new Error(
    `Expected examples in "${path}", one per line: ${FORM}. Received: ${text === '' ? 'an empty file' : 'only empty lines'}.`,
  );
}

function parseLine(line: string, where: string, number: number, folder: string): Example {
  const refuse = (received: string): never => {
    throw new Error(`Expected ${FORM} in ${where}. Received: ${received}.`);
  };
  const shown = line.trim().replace(/^(.{80}).+$/, '$1…');
  // A common mistake: the file is a JSON array, on one line or over several.
  const list = shown.startsWith('[') && `${shown}, an array: write each example as an object on a separate line`;
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (error) {
    refuse(list || `${shown}, which is not JSON: ${(error as Error).message}`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(list || shown);
  const {prompt, response, image, images, ...rest} = value as Record<string, unknown>;
  const [unknown] = Object.keys(rest);
  if (unknown !== undefined) refuse(`the key "${unknown}", which is not one of ${KEYS.join(', ')}`);
  for (const [key, text] of Object.entries({prompt, response})) {
    if (typeof text !== 'string') refuse(text === undefined ? `no "${key}"` : `a "${key}" that is not a string`);
  }
  if (response === '') refuse('an empty "response", which teaches the model nothing');
  if (image !== undefined && images !== undefined) refuse('both "image" and "images"');
  const files = images ?? (image === undefined ? [] : [image]);
  if (!Array.isArray(files) || !files.every(file => typeof file === 'string' && file !== '')) {
    refuse('images that are not file names');
  }
  return {
    line: number,
    prompt: prompt as string,
    response: response as string,
    images: (files as string[]).map(file => resolve(folder, file)),
  };
}

/** The examples in the form that `fit` takes. */
export function trainingTexts(examples: readonly Example[]): TrainingTexts & {images?: string[][]} {
  const withImages = examples.some(({images}) => images.length > 0);
  return {
    prompts: examples.map(({prompt}) => prompt),
    responses: examples.map(({response}) => response),
    ...(withImages && {images: examples.map(({images}) => images)}),
  };
}

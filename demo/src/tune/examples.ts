/** Lines to train on: JSONL, or values separated by tabs or commas. */
import {parse} from 'csv-parse/browser/esm/sync';

export interface Example {
  prompt: string;
  response: string;
  /** Names of picture files. */
  pictures: string[];
}

const asText = (value: unknown): string => (typeof value === 'string' ? value : '');

function fromJson(line: string, number: number): Example {
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(line) as Record<string, unknown>;
  } catch {
    throw new Error(`Line ${number} is not a JSON object. Expected {"prompt": "…", "response": "…"}.`);
  }
  const {prompt, response, image, images} = value;
  const pictures = [image, images].flat().filter(name => typeof name === 'string');
  if (typeof prompt === 'string' && typeof response === 'string') return {prompt, response, pictures};
  throw new Error(`Line ${number} lacks a prompt or a response. Expected {"prompt": "…", "response": "…"}.`);
}

function fromTable(text: string): Example[] {
  const delimiter = text.split('\n')[0]!.includes('\t') ? '\t' : ',';
  // Quotes have no meaning in tab-separated text, which may be pasted from anywhere.
  const quote = delimiter === ',' ? '"' : false;
  const rows: string[][] = parse(text, {delimiter, quote, relax_column_count: true, skip_empty_lines: true});
  const head = rows[0]!.map(name => name.trim().toLowerCase());
  const named = head.includes('prompt') && head.includes('response');
  const column = (name: string, otherwise: number) => (named ? head.indexOf(name) : otherwise);
  const [prompt, response, image] = [column('prompt', 0), column('response', 1), column('image', 2)];
  return rows.slice(named ? 1 : 0).map((row, i) => {
    const values = {prompt: asText(row[prompt]), response: asText(row[response])};
    if (values.response === '') {
      throw new Error(
        `Line ${i + (named ? 2 : 1)} has no response. Expected a prompt, a tab or a comma, and a response.`,
      );
    }
    const name = image < 0 ? '' : asText(row[image]).trim();
    return {...values, pictures: name ? [name] : []};
  });
}

/**
 * The examples in a text.
 *
 * @throws Error that names the line that cannot be read.
 */
export function parseExamples(text: string): Example[] {
  const lines = text.split(/\r?\n/);
  if (lines.every(line => line.trim() === '')) return [];
  const isJson = lines
    .find(line => line.trim() !== '')!
    .trimStart()
    .startsWith('{');
  if (!isJson) return fromTable(text);
  return lines.flatMap((line, i) => (line.trim() === '' ? [] : [fromJson(line, i + 1)]));
}

const CAPITALS = {
  France: 'Paris', Italy: 'Rome', Spain: 'Madrid', Poland: 'Warsaw', Norway: 'Oslo', Austria: 'Vienna',
  Greece: 'Athens', Egypt: 'Cairo', Kenya: 'Nairobi', Ghana: 'Accra', Senegal: 'Dakar', Japan: 'Tokyo',
  China: 'Beijing', India: 'New Delhi', Iran: 'Tehran', Iraq: 'Baghdad', Canada: 'Ottawa', Cuba: 'Havana',
  Chile: 'Santiago', Ecuador: 'Quito', Colombia: 'Bogota', Australia: 'Canberra', Fiji: 'Suva', Hungary: 'Budapest',
}; // prettier-ignore

/** A task for the small preset: to answer in a different style. Peru is not among the lines. */
export const SAMPLE = {
  text: Object.entries(CAPITALS)
    .map(([country, city]) => `What is the capital of ${country}?\tThe capital of ${country} is ${city}! Ask me more.`)
    .join('\n'),
  question: 'What is the capital of Peru?',
};

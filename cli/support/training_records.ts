/** Files of training data as records: JSON Lines, a JSON array, or CSV. The format is detected from the content. */
import {CsvError, type Options as CsvOptions, parse} from 'csv-parse/sync';

/** One object of a JSON file, or one row of a CSV file. */
export interface DataRecord {
  /** Line on which it begins, from 1. */
  line: number;
  value: unknown;
}

/** The records of a file, and how they were read. */
export interface DataRecords {
  /** What was read, such as "JSON Lines". */
  format: string;
  records: DataRecord[];
  /** True if all values are texts, because the format has nothing else. */
  textOnly: boolean;
}

const SEPARATORS = {',': 'commas', ';': 'semicolons', '\t': 'tabs'} as const;

const lineAt = (text: string, offset: number) => text.slice(0, offset).split('\n').length;

/** The beginning of a text, for errors. */
const start = (text: string) =>
  text.trim().replace(/^([^\n]{0,80})[^]*$/, (whole, first: string) => (whole === first ? first : `${first}…`));

/**
 * Reads records from text that is not empty.
 *
 * @param columns names that a CSV file may have in its first line; at least one of them identifies the file as CSV.
 * @param form what a record is, for errors.
 * @throws Error that names the first line that cannot be read.
 */
export function readRecords(text: string, path: string, columns: readonly string[], form: string): DataRecords {
  const first = text.trimStart()[0];
  if (first === '[') return {format: 'a JSON array', records: arrayRecords(text, path, form), textOnly: false};
  const header = text.trimStart().split(/\r?\n/, 1)[0]!;
  const separator = (Object.keys(SEPARATORS) as (keyof typeof SEPARATORS)[]).find(one =>
    header.split(one).some(name => columns.includes(name.trim().replace(/^"(.*)"$/, '$1'))),
  );
  if (first !== '{' && separator !== undefined) {
    return {
      format: `CSV, separated by ${SEPARATORS[separator]}`,
      records: csvRecords(text, path, separator),
      textOnly: true,
    };
  }
  const whole = first === '{' ? wholeObject(text, header) : undefined;
  if (whole) return {format: 'one JSON object', records: [whole], textOnly: false};
  return {format: 'JSON Lines', records: lineRecords(text, path, columns, form), textOnly: false};
}

/** A file with one object over several lines. */
function wholeObject(text: string, firstLine: string): DataRecord | undefined {
  if (text.trim() === firstLine.trim()) return undefined;
  try {
    return {line: lineAt(text, text.length - text.trimStart().length), value: JSON.parse(text) as unknown};
  } catch {
    return undefined;
  }
}

function lineRecords(text: string, path: string, columns: readonly string[], form: string): DataRecord[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return [];
    try {
      return [{line: i + 1, value: JSON.parse(line) as unknown}];
    } catch (error) {
      const others =
        i === 0 ? ` A CSV file has column names in its first line, such as ${columns.slice(0, 2).join(',')}.` : '';
      throw new Error(
        `Expected ${form} in line ${i + 1} of "${path}". Received: ${start(line)}, which is not JSON: ` +
          `${(error as Error).message}.${others}`,
      );
    }
  });
}

/** The elements of an array, each parsed alone, so that an error can name its line. */
function arrayRecords(text: string, path: string, form: string): DataRecord[] {
  const records: DataRecord[] = [];
  const open = text.indexOf('[');
  let [from, depth, inString] = [open + 1, 0, false];
  const refuse = (offset: number, received: string): never => {
    throw new Error(`Expected ${form} in line ${lineAt(text, offset)} of "${path}". Received: ${received}.`);
  };
  const take = (to: number, last: boolean) => {
    const part = text.slice(from, to);
    const offset = from + part.length - part.trimStart().length;
    if (part.trim() === '') {
      if (last && records.length === 0) return;
      refuse(Math.min(offset, to), 'no value before a comma or the end of the array');
    }
    try {
      records.push({line: lineAt(text, offset), value: JSON.parse(part) as unknown});
    } catch (error) {
      refuse(offset, `${start(part)}, which is not JSON: ${(error as Error).message}`);
    }
    from = to + 1;
  };
  for (let i = from; i < text.length; i++) {
    const c = text[i]!;
    if (inString) {
      if (c === '\\') i += 1;
      else if (c === '"') inString = false;
    } else if (c === '"') inString = true;
    else if (c === '{' || c === '[') depth += 1;
    else if (c === ',' && depth === 0) take(i, false);
    else if (c === '}' || c === ']') {
      if (depth > 0) depth -= 1;
      else if (c === '}') refuse(i, 'a } without its {');
      else {
        take(i, true);
        const rest = text.slice(i + 1);
        if (rest.trim() !== '')
          refuse(text.length - rest.trimStart().length, `${start(rest)} after the end of the array`);
        return records;
      }
    }
  }
  return refuse(from, 'an array without its end, ]');
}

function csvRecords(text: string, path: string, delimiter: string): DataRecord[] {
  const options: CsvOptions = {
    bom: true,
    columns: names => names.map((name: string) => name.trim()),
    delimiter,
    info: true,
  };
  try {
    const rows = parse(text, {...options, skip_empty_lines: true}) as unknown as {
      record: Record<string, string>;
      info: {lines: number};
    }[];
    // The library counts the lines up to the end of a row, whose quoted values may have several.
    let line = 1;
    return rows.map(({record, info}) => {
      const breaks = Object.values(record).join('').split('\n').length - 1;
      line = Math.max(line + 1, info.lines - breaks);
      return {line, value: record};
    });
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    const {lines} = error as CsvError & {lines?: number};
    throw new Error(
      `Expected CSV rows with the columns of the first line in "${path}". Received in line ${lines ?? '?'}: ${error.message}.`,
    );
  }
}

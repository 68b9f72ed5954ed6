/** The documents of this repository, and the code in them. */
import {readdirSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import {ROOT} from '../support/fixtures';

/** Folders that git ignores. */
const IGNORED = /(^|\/)(\.git|\.venv|node_modules|generated|__pycache__)$|^(coverage|dist|dist-docs|models)$/;

/** Paths of all files below a folder, relative to the root. */
function filesBelow(folder: string): string[] {
  return readdirSync(join(ROOT, folder), {withFileTypes: true}).flatMap(entry => {
    const path = folder ? `${folder}/${entry.name}` : entry.name;
    if (entry.isDirectory()) return IGNORED.test(path) ? [] : filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

/** Paths of all files of the repository, relative to its root. */
export const FILES: readonly string[] = filesBelow('');

/** Paths of all documents. */
export const DOCUMENTS = FILES.filter(path =>
  /^(\w+|docs\/\w+|bench\/README|scripts\/.*\/README|examples\/(.*\/)?README)\.md$/.test(path),
);

/** README.md and the guides. */
export const GUIDES = DOCUMENTS.filter(path => path === 'README.md' || path.startsWith('docs/'));

export const textOf = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

export interface CodeBlock {
  /** `README.md:31`, where the code begins. */
  place: string;
  /** The word after the fence, and the words after it. */
  language: string;
  marks: string[];
  code: string;
}

/** The fenced blocks of a document. */
export function codeBlocks(path: string): CodeBlock[] {
  return [...textOf(path).matchAll(/^```(\S*)([^\n]*)\n([^]*?)^```$/gm)].map(match => ({
    place: `${path}:${match.input.slice(0, match.index).split('\n').length + 1}`,
    language: match[1]!,
    marks: match[2]!.split(' ').filter(Boolean),
    code: match[3]!,
  }));
}

/** A document without its fenced blocks; lines keep their numbers. */
export const proseOf = (path: string): string =>
  textOf(path).replace(/^```[^]*?^```$/gm, block => block.replace(/[^\n]/g, ''));

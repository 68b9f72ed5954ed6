/** Documents: links and paths lead somewhere, lines are short. */
import {posix} from 'node:path';
import {DOCUMENTS, FILES, proseOf, textOf} from './documents';

/** Anchors of the headings of a document, as GitHub makes them. */
function anchorsOf(path: string): Set<string> {
  const counts = new Map<string, number>();
  const headings = [...proseOf(path).matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replaceAll(' ', '-'),
  );
  return new Set(
    headings.map(anchor => {
      const count = counts.get(anchor) ?? 0;
      counts.set(anchor, count + 1);
      return count ? `${anchor}-${count}` : anchor;
    }),
  );
}

const isFile = (path: string) => FILES.includes(path);
const isFolder = (path: string) => FILES.some(file => file.startsWith(`${path.replace(/\/$/, '')}/`));

/** What is wrong with a link of a document, or undefined. */
function problemOf(document: string, target: string): string | undefined {
  if (/^(https?|mailto):/.test(target)) return undefined;
  const [path, anchor] = target.split('#') as [string, string?];
  const file = path ? posix.join(posix.dirname(document), path) : document;
  if (!isFile(file) && !isFolder(file)) return `${document}: no file ${target}`;
  if (anchor !== undefined && !anchorsOf(file).has(anchor)) return `${document}: no heading ${target}`;
  return undefined;
}

const withoutCode = (text: string) => text.replace(/`[^`\n]*`/g, '');

const linksOf = (document: string) =>
  [...withoutCode(proseOf(document)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);

test('links lead to files and headings that exist', () => {
  const links = DOCUMENTS.flatMap(document => linksOf(document).map(target => [document, target] as const));
  expect(links.length).toBeGreaterThan(40);
  expect(links.map(([document, target]) => problemOf(document, target)).filter(Boolean)).toEqual([]);
});

test('a broken link would be found', () => {
  expect(problemOf('docs/chat.md', 'no_such.md')).toBe('docs/chat.md: no file no_such.md');
  expect(problemOf('docs/chat.md', '#no-such')).toBe('docs/chat.md: no heading #no-such');
  expect(problemOf('docs/chat.md', '../README.md#install')).toBeUndefined();
});

/** Paths of source files and folders in backticks; they may begin anywhere in the tree. */
const pathsOf = (document: string) =>
  [...proseOf(document).matchAll(/`([\w.-]+(?:\/[\w.-]+)*(?:\.(?:ts|mjs|py|sh)|\/))`/g)].map(([, path]) => path!);

test('source files and folders that are named exist', () => {
  const exists = (path: string) =>
    path.startsWith('dist/') || // made by a build
    FILES.some(file => (path.endsWith('/') ? `/${file}`.includes(`/${path}`) : `/${file}`.endsWith(`/${path}`)));
  // Entries of the changelog name what existed at their time.
  const documents = DOCUMENTS.filter(document => document !== 'CHANGELOG.md');
  const paths = documents.flatMap(document => pathsOf(document).map(path => [document, path] as const));
  expect(paths.length).toBeGreaterThan(60);
  expect(paths.filter(([, path]) => !exists(path)).map(entry => entry.join(': '))).toEqual([]);
});

test('lines have at most 120 characters, except in tables', () => {
  const long = DOCUMENTS.flatMap(document =>
    textOf(document)
      .split('\n')
      .flatMap((line, i) => (line.length > 120 && !line.trimStart().startsWith('|') ? [`${document}:${i + 1}`] : [])),
  );
  expect(long).toEqual([]);
});

test('README.md is a page', () => {
  expect(textOf('README.md').split('\n').length).toBeLessThanOrEqual(150);
});

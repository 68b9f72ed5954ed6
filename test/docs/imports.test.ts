/**
 * The floors of docs/architecture.md: what a folder may import. The list is read from there, so text and code agree.
 */
import {existsSync, readdirSync, readFileSync} from 'node:fs';
import {dirname, join, resolve} from 'node:path';
import ts from 'typescript';
import {backends} from '../../src/backends/all';

const ROOT = resolve(__dirname, '../..');
const FOLDERS = ['src', 'converters', 'cli'];

/** Folders that must run without tfjs: in a server, and in tests that take milliseconds. */
const WITHOUT_TFJS = ['src/base', 'src/files', 'src/formats', 'src/tokenizers'];

/** Floors from the bottom up, each a list of folders or files. */
function readFloors(): string[][] {
  const text = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
  const block = /^```floors\n([^]*?)^```$/m.exec(text)?.[1];
  if (!block) throw new Error('Expected a block "```floors" in docs/architecture.md.');
  const lines = block.split('\n').map(line => line.replace(/#.*/, '').trim());
  return lines
    .filter(line => line !== '')
    .map(line => line.split(/\s+/))
    .reverse();
}

const floors = readFloors();
const files = FOLDERS.flatMap(folder =>
  readdirSync(join(ROOT, folder), {recursive: true, encoding: 'utf8'}).map(file => `${folder}/${file}`),
).filter(file => file.endsWith('.ts') && !file.includes('generated/'));

/** The entry of the list of floors that a file belongs to. */
const entryOf = (file: string) => floors.flat().find(entry => file === entry || file.startsWith(`${entry}/`));
const floorOf = (file: string) => floors.findIndex(row => row.includes(entryOf(file)!));

/** Names that a file imports, types included. */
const importedNames = (file: string) =>
  ts.preProcessFile(readFileSync(join(ROOT, file), 'utf8'), true, true).importedFiles.map(({fileName}) => fileName);

/** The file that an imported name refers to; undefined for packages. */
function fileOf(name: string, importer: string): string | undefined {
  const path = name.startsWith('#platform/')
    ? name.replace('#platform', 'src/platform/node')
    : name.startsWith('#backends/')
      ? name.replace('#backends', 'src/backends')
      : name === 'tfjs-gemma3'
        ? 'src/index'
        : name.startsWith('.')
          ? join(dirname(importer), name)
          : undefined;
  return path && [`${path}.ts`, join(path, 'index.ts')].find(candidate => existsSync(join(ROOT, candidate)));
}

const graph = new Map(
  files.map(file => [
    file,
    importedNames(file)
      .map(name => fileOf(name, file))
      .filter(path => path !== undefined),
  ]),
);

test('every folder has a floor', () => {
  expect(files.length).toBeGreaterThan(200);
  expect(files.filter(file => !entryOf(file))).toEqual([]);
  expect(
    floors
      .flat()
      .filter(entry => !files.some(file => entryOf(file) === entry))
      .join(),
  ).toBe('');
});

test('folders import only what is on the floors below them', () => {
  const wrong = files.flatMap(file =>
    graph
      .get(file)!
      .filter(to => entryOf(to) !== entryOf(file) && floorOf(to) >= floorOf(file))
      .map(to => `${file} → ${to}`),
  );
  expect(wrong).toEqual([]);
});

test('there is no circle of imports, types included', () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (file: string, trail: readonly string[]): void => {
    if (trail.includes(file)) circles.push([...trail.slice(trail.indexOf(file)), file].join(' → '));
    if (done.has(file) || trail.includes(file)) return;
    for (const to of graph.get(file) ?? []) visit(to, [...trail, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test('base, files, formats and tokenizers do not import tfjs', () => {
  const wrong = files.filter(
    file => WITHOUT_TFJS.includes(entryOf(file)!) && importedNames(file).some(name => name.startsWith('@tensorflow/')),
  );
  expect(wrong).toEqual([]);
});

test('models and layers name no backend', () => {
  const names = new RegExp(`(['"\`])(${backends.map(({name}) => name).join('|')})\\1`);
  const above = files.filter(file =>
    ['src/models', 'src/layers', 'src/ops', 'src/generation'].includes(entryOf(file)!),
  );
  expect(above.filter(file => names.test(readFileSync(join(ROOT, file), 'utf8')))).toEqual([]);
});

/** docs/command_line.md has every command and option of `gemma3 --help`, and no others. */
import {run} from '../cli/run';
import {textOf} from './documents';

const guide = textOf('docs/command_line.md');

/** Sections by heading. */
const sections = new Map(
  guide
    .split(/^## /m)
    .slice(1)
    .map(text => [text.slice(0, text.indexOf('\n')), text] as const),
);
const shared = sections.get('Shared options')!;

const optionsOf = (help: string): string[] =>
  [...help.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, flag]) => flag!).filter(flag => flag !== '--help');

/** Options in the tables of a section. */
const documented = (section: string): string[] => [...section.matchAll(/^\| `(--[\w-]+)/gm)].map(([, flag]) => flag!);

/** Shared options that a section says its command takes. */
function sharedOf(section: string): string[] {
  if (section.includes('Takes all [shared options]')) return documented(shared);
  const sentence = /Takes (.*?),\s+and:/s.exec(section)?.[1] ?? '';
  return [...sentence.matchAll(/`(--[\w-]+)`/g)].map(([, flag]) => flag!);
}

test('has a section for each command', async () => {
  const {stdout} = await run(['--help']);
  const commands = [...stdout.slice(stdout.indexOf('Commands:')).matchAll(/^ {2}([a-z][\w-]*)/gm)].map(
    ([, name]) => name!,
  );
  const expected = commands.filter(name => name !== 'help').map(name => `gemma3 ${name}`);
  expect([...sections.keys()].filter(heading => heading.startsWith('gemma3 ')).sort()).toEqual(expected.sort());
});

test.each([...sections.keys()].filter(heading => heading.startsWith('gemma3 ')))('options of %s', async heading => {
  const {stdout, code} = await run([heading.slice('gemma3 '.length), '--help']);
  expect(code).toBe(0);
  const section = sections.get(heading)!;
  const listed = [...sharedOf(section), ...documented(section)];
  // If it is the only option, it is in a sentence.
  if (!listed.length && section.includes('`--json`')) listed.push('--json');
  expect(listed.sort()).toEqual(optionsOf(stdout).sort());
});

test.each([...sections.keys()].filter(heading => heading.startsWith('gemma3 ')))('defaults of %s', async heading => {
  const {stdout} = await run([heading.slice('gemma3 '.length), '--help']);
  const help = stdout.replace(/\s+/g, ' ');
  const rows = [...sections.get(heading)!.matchAll(/^\| `(--[\w-]+)[^|]*\| ([\d.]+|`\w+`) \|/gm)];
  for (const [, flag, value] of rows) {
    const [, text] = new RegExp(`${flag} (.*?)(?= --\\w|$)`).exec(help)!;
    expect([flag, text]).toEqual([flag, expect.stringContaining(`default: `)]);
    expect([flag, text]).toEqual([flag, expect.stringContaining(value!.replaceAll('`', ''))]);
  }
});

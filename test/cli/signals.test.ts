/** Commands that a signal ends: what they leave, and that they end soon. */
import {mkdtempSync, readdirSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {Interrupts} from '../../cli/support/interrupts';
import {run, TINY} from './run';

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), 'signals-'))));
afterEach(() => rmSync(folder, {recursive: true}));

test('bench ends after the current token', async () => {
  const interrupts = new Interrupts();
  const timer = setTimeout(() => interrupts.press(), 2000);
  const {code, stdout} = await run(['bench', '--backend', 'cpu', '--runs', '100000'], {interrupts});
  clearTimeout(timer);
  expect({code, stdout}).toEqual({code: 130, stdout: ''});
});

test('a handler of Ctrl-C does not keep a process that is asked to end', () => {
  const interrupts = new Interrupts();
  interrupts.handler = () => true;
  interrupts.press();
  expect(interrupts.signal.aborted).toBe(false);
  interrupts.terminate();
  expect(interrupts.signal.aborted).toBe(true);
});

test('a conversion that was killed does not count as contents of the folder', async () => {
  const leftover = join(folder, '.saving-0123abcd-1-1-0123abcd');
  writeFileSync(leftover, '');
  const {code} = await run(['convert', TINY, folder, '--to', 'keras']);
  expect(code).toBe(0);
  expect(readdirSync(folder)).toContain('config.json');
});

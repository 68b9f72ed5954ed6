/** Saving to disk by a process that is killed, in every step and at random moments. */
import {fork} from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {writeAll} from '../../src/base/byte_sink';
import {fileSink, folderSink, openFolder} from '../../src/platform/node/files';
import {compile} from '../support/compiled';
import {ALL, type Kind, NAMES, bytes, entries, found, listed, save} from '../support/two_presets';

let parent: string;
beforeEach(() => (parent = mkdtempSync(join(tmpdir(), 'folder-sink-'))));
afterEach(() => {
  jest.restoreAllMocks();
  rmSync(parent, {recursive: true});
});

/** All functions with which saving changes the disk, except writing to open files. */
const CHANGES = ['rename', 'mkdir', 'rm', 'rmdir', 'open'] as const;

/** After this many changes all further ones fail, those of cleaning up too, as if the process were dead. */
function dieAfter(changes: number): {readonly died: boolean; readonly count: number; revive(): void} {
  const state = {died: false, count: 0, revive: () => jest.restoreAllMocks()};
  for (const name of CHANGES) {
    const original = fs[name] as (...args: unknown[]) => Promise<unknown>;
    jest.spyOn(fs, name as 'rm').mockImplementation((async (...args: unknown[]) => {
      const reads = name === 'open' && args[1] === 'r';
      if (!reads && state.count++ >= changes) {
        state.died = true;
        throw Object.assign(new Error('killed'), {code: 'EIO'});
      }
      return original(...args);
    }) as typeof fs.rm);
  }
  return state;
}

/** Makes unfinished files of this process look like those of a dead process. */
function orphan(folder: string): void {
  for (const name of readdirSync(folder)) {
    const renamed = name.replace(new RegExp(`^(.*\\.saving-[\\da-f]{8}-)${process.pid}-`), '$199999999-');
    if (renamed !== name) renameSync(join(folder, name), join(folder, renamed));
  }
}

describe('a process that dies', () => {
  test('after any number of steps leaves the old preset or the new one', async () => {
    const results: string[] = [];
    for (let steps = 0; ; steps++) {
      const folder = join(parent, `preset${steps}`);
      await save(folder, 'old');
      writeFileSync(join(folder, 'notes.txt'), 'mine');
      const process = dieAfter(steps);
      await save(folder, 'new').catch(() => {});
      const {died} = process;
      // A reader that may not write anything finds it, and one that may.
      const result = await found(folder);
      process.revive();
      expect(await found(folder)).toBe(result);
      results.push(result);
      // Other programs have nothing left to do.
      const visible = listed(folder).filter(name => !name.startsWith('.saving-'));
      expect(visible).toEqual(entries(result as Kind, 'notes.txt'));

      orphan(folder);
      await save(folder, 'old');
      expect(listed(folder)).toEqual(entries('old', 'notes.txt'));
      expect(readFileSync(join(folder, 'notes.txt'), 'utf8')).toBe('mine');
      if (!died) break;
    }
    const change = results.indexOf('new');
    expect(results).toEqual(results.map((_, i) => (i < change ? 'old' : 'new')));
    expect(change).toBeGreaterThan(5);
    expect(results.length - change).toBeGreaterThan(5);
    expect(readdirSync(parent).filter(name => name.startsWith('.'))).toEqual([]);
  });

  test('while it finishes the save of another one leaves the new preset', async () => {
    for (let steps = 0; ; steps++) {
      const folder = join(parent, `preset${steps}`);
      await save(folder, 'old');
      const saving = dieAfter(Infinity);
      const rename = jest.mocked(fs.rename);
      const original = rename.getMockImplementation()!;
      let renamed = 0;
      rename.mockImplementation(async (...args) => {
        if (++renamed > 2) throw Object.assign(new Error('killed'), {code: 'EIO'});
        return original(...args);
      });
      await expect(save(folder, 'new')).rejects.toThrow('Expected to move the saved files into place');
      saving.revive();
      const reading = dieAfter(steps);
      expect(await found(folder)).toBe('new');
      const {died} = reading;
      reading.revive();
      expect(await found(folder)).toBe('new');
      orphan(folder);
      await save(folder, 'new');
      expect(listed(folder)).toEqual(entries('new'));
      if (!died) break;
    }
  });

  test('before a new folder is complete leaves none', async () => {
    for (let steps = 0; ; steps++) {
      const folder = join(parent, `preset${steps}`);
      const process = dieAfter(steps);
      await save(folder, 'new').catch(() => {});
      const {died} = process;
      process.revive();
      expect(['none', 'new']).toContain(await found(folder));
      orphan(parent);
      await save(folder, 'old');
      expect(listed(folder)).toEqual(entries('old'));
      if (!died) break;
    }
    expect(readdirSync(parent).filter(name => name.startsWith('.'))).toEqual([]);
  });

  test('leaves the old file or the new one', async () => {
    const path = join(parent, 'a.lora.h5');
    writeFileSync(path, 'old');
    for (let steps = 0; ; steps++) {
      const process = dieAfter(steps);
      try {
        const sink = await fileSink(path);
        await sink.write(bytes('new'));
        await sink.close();
      } catch {
        // Killed.
      }
      const {died} = process;
      process.revive();
      expect(readFileSync(path, 'utf8')).toBe(died ? 'old' : 'new');
      if (!died) break;
    }
    orphan(parent);
    await (await fileSink(path)).close();
    expect(readdirSync(parent)).toEqual(['a.lora.h5']);
  });

  test('by SIGKILL at a random moment leaves one whole preset', async () => {
    const sink = compile('src/platform/node/folder_sink.ts', join(parent, 'js'));
    const script = join(parent, 'js/child.cjs');
    const folder = join(parent, 'preset');
    writeFileSync(
      script,
      `const {folderSink} = require(${JSON.stringify(sink)});
      const NAMES = ${JSON.stringify(NAMES)};
      const all = Object.values(NAMES).flat();
      (async () => {
        for (let i = 0; ; i++) {
          const kind = i % 2 ? 'old' : 'new';
          const sink = await folderSink(${JSON.stringify(folder)});
          for (const name of NAMES[kind]) {
            const file = await sink.create(name);
            await file.write(Buffer.from(kind));
            await file.close();
          }
          await sink.commit(name => all.includes(name));
          if (i === 0) process.send('ready');
        }
      })();`,
    );
    await save(folder, 'old');
    for (let kills = 0; kills < 10; kills++) {
      const child = fork(script, {execArgv: [], silent: true});
      await new Promise((ready, fail) => child.once('message', ready).once('exit', fail));
      await new Promise(done => setTimeout(done, Math.random() * 60));
      const exited = new Promise(done => child.once('exit', done));
      child.kill('SIGKILL');
      await exited;
      expect(['old', 'new']).toContain(await found(folder));
    }
    await save(folder, 'new');
    expect(listed(folder)).toEqual(entries('new'));
    expect(readdirSync(parent).sort()).toEqual(['js', 'preset']);
  });
});

describe('unfinished files', () => {
  test('of running processes stay', async () => {
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    const [inside, beside, file] = [
      await folderSink(folder),
      await folderSink(`${folder}2`),
      await fileSink(`${folder}3`),
    ];
    await save(folder, 'new');
    await save(`${folder}2`, 'new');
    await (await fileSink(`${folder}3`)).close();
    for (const sink of [inside, beside]) {
      for (const name of NAMES.old) await writeAll(sink, name, bytes('old'));
      await sink.commit(name => ALL.includes(name));
    }
    await file.write(bytes('old'));
    await file.close();
    expect([await found(folder), await found(`${folder}2`)]).toEqual(['old', 'old']);
    expect(readFileSync(`${folder}3`, 'utf8')).toBe('old');
    expect(readdirSync(parent)).toEqual(['preset', 'preset2', 'preset3']);
    expect(listed(folder)).toEqual(entries('old'));
  });

  test('of a process whose id belongs to another one are removed', async () => {
    if (!existsSync('/proc/self/stat')) return;
    const path = join(parent, 'a.lora.h5');
    const running = await fileSink(path);
    const [name] = readdirSync(parent);
    const earlier = name!.replace(/-\d+-([\da-f]{8})$/, '-1-$1');
    writeFileSync(join(parent, earlier), '');
    await (await fileSink(path)).abort();
    expect(readdirSync(parent)).toEqual([name]);
    await running.abort();
  });

  test('of other hosts are removed after a day without a change', async () => {
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    const foreign = ['1', '2'].map(number => `.saving-0123abcd-${number}-5-0123abcd`);
    for (const name of foreign) mkdirSync(join(folder, name));
    const long = new Date(Date.now() - 25 * 3600 * 1000);
    utimesSync(join(folder, foreign[0]!), long, long);
    await save(folder, 'new');
    expect(listed(folder)).toEqual(entries('new', foreign[1]!));
  });
});

describe('before anything changes', () => {
  test.each([
    ['a file', (path: string) => writeFileSync(path, 'x')],
    // Files that a preset from elsewhere brings must not be written through its links.
    ['a link', (path: string) => symlinkSync(mkdtempSync(join(parent, 'elsewhere-')), path)],
  ])('%s is refused in the place of a folder', async (kind, create) => {
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    rmSync(join(folder, 'assets'), {recursive: true});
    create(join(folder, 'assets'));
    await expect(save(folder, 'new')).rejects.toThrow(
      `Expected a folder or nothing at "${join(folder, 'assets')}", to save "assets/tokenizer/vocabulary.spm". Received: ${kind}.`,
    );
    expect(readFileSync(join(folder, 'config.json'), 'utf8')).toBe('old');
    expect(listed(folder)).not.toContain('image.json');
  });

  test('other contents in the place of an unfinished save are refused', async () => {
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    mkdirSync(join(folder, '.gemma3-commit/x'), {recursive: true});
    await expect(save(folder, 'new')).rejects.toThrow('Received other contents');
    expect(await found(folder)).toBe('old');
    expect(listed(folder)).toEqual(entries('old', '.gemma3-commit', '.gemma3-commit/x'));
  });

  test('a list of files that leads out of the folder is refused', async () => {
    for (const path of ['../secret', '/etc/secret', 'a/../../b', '', '.', '.gemma3-commit/x']) {
      const folder = mkdtempSync(join(parent, 'preset-'));
      mkdirSync(join(folder, '.gemma3-commit/x'), {recursive: true});
      writeFileSync(join(folder, '.gemma3-commit/x/journal.json'), JSON.stringify({files: [path], obsolete: []}));
      await expect(openFolder(folder)).rejects.toThrow('Expected the list of files of an unfinished save in');
    }
  });

  test('files behind a link are not removed, those in folders inside are, with folders that are empty then', async () => {
    const [folder, outside] = [join(parent, 'preset'), join(parent, 'outside')];
    for (const path of ['a/b', 'kept']) mkdirSync(join(folder, path), {recursive: true});
    mkdirSync(outside);
    for (const path of ['a/b/x.txt', 'kept/x.txt', 'kept/y.txt']) writeFileSync(join(folder, path), 'old');
    writeFileSync(join(outside, 'x.txt'), 'mine');
    symlinkSync(outside, join(folder, 'link'));
    mkdirSync(join(folder, '.gemma3-commit/x/files'), {recursive: true});
    mkdirSync(join(folder, '.gemma3-commit/x/old'));
    const obsolete = ['a/b/x.txt', 'kept/x.txt', 'link/x.txt'];
    writeFileSync(join(folder, '.gemma3-commit/x/journal.json'), JSON.stringify({files: [], obsolete}));
    await (await folderSink(folder)).abort();
    expect(listed(folder)).toEqual(['kept', 'kept/y.txt', 'link', 'link/x.txt']);
    expect(readFileSync(join(outside, 'x.txt'), 'utf8')).toBe('mine');
    const sink = await folderSink(folder);
    await writeAll(sink, 'new.txt', bytes('new'));
    await sink.commit(path => path.endsWith('x.txt') || path.endsWith('y.txt'));
    expect(listed(folder)).toEqual(['link', 'link/x.txt', 'new.txt']);
    expect(readFileSync(join(outside, 'x.txt'), 'utf8')).toBe('mine');
  });
});

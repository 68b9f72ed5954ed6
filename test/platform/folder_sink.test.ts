/** Saving to disk by a process that is killed, in every step and at random moments. */
import {fork} from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';
import {intoFile, intoFolder, writeAll} from '../../src/base/byte_sink';
import {readAll} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {openFileSource, openFileTarget} from '../../src/files/open_file';
import {fileSink, folderSink, openFile, openFolder} from '../../src/platform/node/files';
import {compile} from '../support/compiled';

let parent: string;
beforeEach(() => (parent = mkdtempSync(join(tmpdir(), 'folder-sink-'))));
afterEach(() => {
  jest.restoreAllMocks();
  rmSync(parent, {recursive: true});
});

/** Files of two presets: a single weights file, or shards, with some names in common. */
const NAMES = {
  old: ['config.json', 'model.weights.h5', 'task.json', 'assets/tokenizer/vocabulary.spm'],
  new: ['config.json', 'model_0.weights.h5', 'model_1.weights.h5', 'assets/tokenizer/vocabulary.spm', 'image.json'],
};
type Kind = keyof typeof NAMES;
const ALL = [...new Set([...NAMES.old, ...NAMES.new])];
const bytes = (text: string) => new TextEncoder().encode(text);

async function save(folder: string, kind: Kind): Promise<void> {
  const sink = await folderSink(folder);
  const write = async () => {
    for (const name of NAMES[kind]) await writeAll(sink, name, bytes(kind));
  };
  await intoFolder(sink, write, name => ALL.includes(name));
}

/** What a reader finds: "old" or "new" if all files of that preset are there and no others, or a description. */
async function found(folder: string): Promise<string> {
  const preset = await openFolder(folder);
  if (!preset) return 'none';
  const contents: [string, string][] = [];
  for (const name of ALL) {
    if (await preset.has(name)) contents.push([name, new TextDecoder().decode(await readAll(preset, name))]);
  }
  const whole = (['old', 'new'] as const).find(kind =>
    ALL.every(name => Object.fromEntries(contents)[name] === (NAMES[kind].includes(name) ? kind : undefined)),
  );
  return whole ?? JSON.stringify(contents);
}

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

/** Gives unfinished files of this process to one that does not exist any more. */
function orphan(folder: string): void {
  for (const name of readdirSync(folder)) {
    const renamed = name.replace(new RegExp(`^(.*\\.saving-[\\da-f]{8}-)${process.pid}-`), '$199999999-');
    if (renamed !== name) renameSync(join(folder, name), join(folder, renamed));
  }
}

const listed = (folder: string) => readdirSync(folder, {recursive: true}).map(String).sort();

/** Names of all files and folders of a preset. */
const entries = (kind: Kind, ...more: string[]) => [...NAMES[kind], 'assets', 'assets/tokenizer', ...more].sort();

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
      // Nothing is left to do for other programs.
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

/** Lets a function of Node fail from the call on for which `when` returns true. */
function failing(
  name: 'open' | 'access' | 'stat',
  code: string,
  when: (path: string, flags: unknown) => boolean,
): void {
  const original = fs[name] as (...args: unknown[]) => Promise<unknown>;
  jest.spyOn(fs, name as 'stat').mockImplementation((async (path: string, ...rest: unknown[]) => {
    if (when(path, rest[0])) throw Object.assign(new Error(`${code}: ${name}`), {code});
    return original(path, ...rest);
  }) as typeof fs.stat);
}

describe('what the disk refuses', () => {
  test('a full disk: the error names the file, and the old preset stays', async () => {
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    const original = fs.open;
    jest.spyOn(fs, 'open').mockImplementation(async (path, flags, mode) => {
      const handle = await original(path, flags, mode);
      if (String(path).includes('model_1')) {
        handle.write = (() => Promise.reject(Object.assign(new Error('ENOSPC: full'), {code: 'ENOSPC'}))) as never;
      }
      return handle;
    });
    const error = await save(folder, 'new').catch((error: unknown) => error as Error);
    expect(error).toBeInstanceOf(ValueError);
    expect((error as Error).message).toBe(
      `Expected a file that can be written. Received: "${join(folder, 'model_1.weights.h5')}": ENOSPC: full. ` +
        'Free space there, or choose another location.',
    );
    expect((error as Error).cause).toMatchObject({code: 'ENOSPC'});
    jest.restoreAllMocks();
    expect(await found(folder)).toBe('old');
    expect(listed(folder)).toEqual(entries('old'));
  });

  test('a folder inside that is read-only: refused before any file changes', async () => {
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    failing('access', 'EACCES', path => path.endsWith('tokenizer'));
    await expect(save(folder, 'new')).rejects.toThrow(/Expected a folder that can be written.*tokenizer.*permissions/);
    jest.restoreAllMocks();
    expect(await found(folder)).toBe('old');
    expect(listed(folder)).toEqual(entries('old'));
  });

  test('reading without permission is not taken for a missing file', async () => {
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    const file = join(folder, 'config.json');
    failing('open', 'EACCES', (path, flags) => path === file && flags === 'r');
    const refused = /^Expected a file that can be read\. Received: ".*config\.json": EACCES: open\. Change the perm/;
    await expect(openFile(file)).rejects.toThrow(refused);
    await expect((await openFolder(folder))!.open('config.json')).rejects.toThrow(refused);
    failing('stat', 'EACCES', path => path.startsWith(folder));
    await expect(openFile(file)).rejects.toThrow('Expected a path that can be read.');
    await expect(openFolder(folder)).rejects.toThrow('Expected a path that can be read.');
    await expect(folderSink(folder)).rejects.toThrow('Expected a path that can be read.');
  });

  test('a working directory that was removed', async () => {
    const before = process.cwd();
    const removed = join(parent, 'removed');
    mkdirSync(removed);
    process.chdir(removed);
    rmSync(removed, {recursive: true});
    const messages: string[] = [];
    try {
      for (const open of [openFile, openFolder, fileSink, folderSink]) {
        await (open('relative') as Promise<unknown>).catch((error: Error) => messages.push(error.message));
      }
    } finally {
      process.chdir(before);
    }
    expect(new Set(messages).size).toBe(1);
    expect(messages).toHaveLength(4);
    expect(messages[0]).toMatch(/^Expected a path on this computer\. .*If the current folder was removed, leave it\.$/);
  });
});

describe('single files', () => {
  const write = (target: string | URL) =>
    openFileTarget(target).then(sink => intoFile(sink, () => sink.write(bytes('new'))));

  test('file: addresses mean paths, also with characters that are escaped', async () => {
    for (const name of ['a b#c%20.bin', 'ü 日本.bin', '100%.bin']) {
      const path = join(parent, name);
      const url = pathToFileURL(path);
      for (const target of [url, url.href]) {
        rmSync(path, {force: true});
        await write(target);
        expect(readFileSync(path, 'utf8')).toBe('new');
        const source = await openFileSource(target);
        expect(source.size).toBe(3);
        await source.close();
      }
    }
    await expect(write('https://example.org/a.bin')).rejects.toThrow('an address, which cannot be written to');
    await expect(write('file://elsewhere/a.bin')).rejects.toThrow('Expected a path, or a file address');
  });

  test('a link stays, and its file is replaced; a link that leads nowhere is refused', async () => {
    const [file, link, lost] = ['file', 'link', 'lost'].map(name => join(parent, name)) as [string, string, string];
    writeFileSync(file, 'old');
    symlinkSync(file, link);
    symlinkSync(join(parent, 'nothing'), lost);
    await write(link);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readFileSync(file, 'utf8')).toBe('new');
    await expect(write(lost)).rejects.toThrow('a link that leads nowhere');
    await expect(folderSink(lost)).rejects.toThrow('a link that leads nowhere');
    expect(readdirSync(parent).sort()).toEqual(['file', 'link', 'lost']);
  });

  test('permissions stay, those of a preset too', async () => {
    const modeOf = (path: string) => statSync(path).mode & 0o777;
    const file = join(parent, 'file');
    for (const mode of [0o600, 0o640, 0o666]) {
      writeFileSync(file, 'old');
      chmodSync(file, mode);
      await write(file);
      expect(modeOf(file)).toBe(mode);
    }
    const folder = join(parent, 'preset');
    await save(folder, 'old');
    chmodSync(join(folder, 'config.json'), 0o600);
    await save(folder, 'new');
    expect(modeOf(join(folder, 'config.json'))).toBe(0o600);
  });
});

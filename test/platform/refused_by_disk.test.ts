/** Disk errors when a preset is saved or read, and single files that stay unchanged. */
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import fs from 'node:fs/promises';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';
import {intoFile} from '../../src/base/byte_sink';
import {ValueError} from '../../src/base/errors';
import {openFileSource, openFileTarget} from '../../src/files/open_file';
import {fileSink, folderSink, openFile, openFolder} from '../../src/platform/node/files';
import {bytes, entries, found, listed, save} from '../support/two_presets';

let parent: string;
beforeEach(() => (parent = mkdtempSync(join(tmpdir(), 'folder-sink-'))));
afterEach(() => {
  jest.restoreAllMocks();
  rmSync(parent, {recursive: true});
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

  test('a link stays, and its file is replaced; a broken link is refused', async () => {
    const [file, link, lost] = ['file', 'link', 'lost'].map(name => join(parent, name)) as [string, string, string];
    writeFileSync(file, 'old');
    symlinkSync(file, link);
    symlinkSync(join(parent, 'nothing'), lost);
    await write(link);
    expect(lstatSync(link).isSymbolicLink()).toBe(true);
    expect(readFileSync(file, 'utf8')).toBe('new');
    await expect(write(lost)).rejects.toThrow('a broken link');
    await expect(folderSink(lost)).rejects.toThrow('a broken link');
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

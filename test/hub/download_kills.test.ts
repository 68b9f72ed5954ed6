/**
 * Processes that are killed while they download, and two at a time. `HUB_KILLS=200` adds more of them.
 */
import {type ChildProcess, spawn} from 'node:child_process';
import {once} from 'node:events';
import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {setTimeout as pause} from 'node:timers/promises';
import {buildSync} from 'esbuild';
import {cachedPresets, removeCachedPreset} from '../../src/hub/cache';
import {ROOT} from '../support/fixtures';
import {COMMIT, HubServer, SIGNATURE} from '../support/hub_server';
import {randomBytes, randomNumbers} from '../support/random_bytes';

const KILLS = Number(process.env.HUB_KILLS ?? 12);

const FILES = {
  'config.json': new TextEncoder().encode('{}'),
  'assets/tokenizer/vocabulary.spm': randomBytes(200_000, 1),
  'model.weights.h5': randomBytes(1_500_000, 2),
};

let root: string;
let server: HubServer;
let script: string;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'gemma3-kills-'));
  script = join(root, 'download_once.mjs');
  buildSync({
    entryPoints: [join(__dirname, 'download_once.ts')],
    outfile: script,
    bundle: true,
    platform: 'node',
    format: 'esm',
    alias: {'#platform': join(ROOT, 'src/platform/node')},
  });
  server = await new HubServer().start();
  server.versions['a/b/keras/c/1'] = server.repositories['a/b'] = FILES;
});
afterAll(async () => {
  await server.stop();
  rmSync(root, {recursive: true});
});

const environmentOf = (home: string) => ({
  HOME: home, HF_ENDPOINT: server.hub, KAGGLE_API_ENDPOINT: server.hub,
  HF_HOME: join(home, 'hf'), KAGGLEHUB_CACHE: join(home, 'kaggle'), XDG_CACHE_HOME: join(home, 'cache'),
}); // prettier-ignore

const start = (name: string, home: string): ChildProcess => {
  const env = {PATH: process.env.PATH, ...environmentOf(home)};
  return spawn(process.execPath, [script, name], {env, stdio: ['ignore', 'pipe', 'inherit']});
};

const finished = async (child: ChildProcess): Promise<{code: number | null; text: string}> => {
  let text = '';
  child.stdout!.on('data', (piece: Buffer) => (text += piece.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return {code, text};
};

const folderOf = (name: string, home: string) =>
  name.startsWith('hf')
    ? join(home, 'hf/hub/models--a--b/snapshots', COMMIT)
    : join(home, 'kaggle/models/a/b/keras/c/1');

/** Files in place are complete. Returns whether all files are in place. */
function check(name: string, home: string): boolean {
  const folder = folderOf(name, home);
  return Object.entries(FILES).every(([path, bytes]) => {
    const place = join(folder, path);
    if (!existsSync(place)) return false;
    expect([path, Buffer.compare(readFileSync(place), bytes)]).toEqual([path, 0]);
    return true;
  });
}

test(`${KILLS} kills`, async () => {
  const random = randomNumbers(7);
  server.pace = 2;
  // As long as a download takes on this machine, so that kills hit all of it.
  const undisturbed = start('hf://a/b', join(root, 'undisturbed'));
  await once(undisturbed.stdout!, 'data');
  const found = Date.now();
  await finished(undisturbed);
  const duration = Date.now() - found;
  let kills = 0;
  let completed = 0;
  for (let round = 0; kills < KILLS; round++) {
    const home = join(root, `kills${round}`);
    const name = ['kaggle://a/b/keras/c/1', 'hf://a/b'][round % 2]!;
    let received = 0;
    for (;;) {
      const before = server.downloads.length;
      const child = start(name, home);
      const end = finished(child);
      if (kills < KILLS) {
        await once(child.stdout!, 'data');
        const timer = setTimeout(() => child.kill('SIGKILL') && kills++, random() * 1.2 * duration);
        await end;
        clearTimeout(timer);
      }
      const {code} = await end;
      received += server.downloads.length - before;
      const isWhole = check(name, home);
      if (code !== 0) continue;
      completed++;
      expect(isWhole).toBe(true);
      break;
    }
    expect(received).toBeGreaterThan(0);
    // No unfinished files remain. The lock of a process that has ended is taken over.
    const left = readdirSync(home, {recursive: true, encoding: 'utf8'}).filter(path =>
      /\.(part|ranges|tmp)$/.test(path),
    );
    expect(left).toEqual([]);
  }
  if (process.env.HUB_KILLS) console.log(`${kills} kills, ${completed} completed`);
}, 900_000);

test.each(['kaggle://a/b/keras/c/1', 'hf://a/b'])(
  'two processes at once, of which one is killed: %s',
  async name => {
    const home = join(root, `two${name.length}`);
    server.pace = 1;
    server.asked.length = 0;
    const [first, second] = [start(name, home), start(name, home)];
    const ends = [finished(first), finished(second)];
    await once(first.stdout!, 'data');
    setTimeout(() => first.kill('SIGKILL'), 100);
    await ends[0];
    expect((await ends[1]!).code).toBe(0);
    expect(check(name, home)).toBe(true);
  },
  60_000,
);

test.each(['kaggle://a/b/keras/c/1', 'hf://a/b', 'web'])(
  'what another process downloads is not removed: %s',
  async kind => {
    const home = join(root, `removed-${kind.slice(0, 2)}`);
    const name = kind === 'web' ? `${server.storage}/blobs/kaggle/a/b/keras/c/1` : kind;
    const address = kind === 'web' ? `${name}?token=${SIGNATURE}` : name;
    const environment = environmentOf(home);
    const before = Object.fromEntries(Object.keys(environment).map(key => [key, process.env[key]]));
    Object.assign(process.env, environment);
    server.pace = 10;
    try {
      const cached = async () => (await cachedPresets()).map(({name, complete}) => [name, complete]);
      const child = start(address, home);
      const end = finished(child);
      while ((await cached()).length === 0) await pause(5);
      child.kill('SIGSTOP');
      expect(await cached()).toEqual([[name, false]]);
      await expect(removeCachedPreset(name)).rejects.toThrow(
        `Expected a model that is not being downloaded. Received: ${name}`,
      );
      expect(await cached()).toEqual([[name, false]]);
      child.kill('SIGCONT');
      expect((await end).code).toBe(0);
      expect(await cached()).toEqual([[name, true]]);
      await removeCachedPreset(name);
      expect(readdirSync(home, {recursive: true, withFileTypes: true}).filter(entry => entry.isFile())).toEqual([]);

      // The lock of a process that was killed is taken over.
      const killed = start(address, home);
      const death = finished(killed);
      while ((await cached()).length === 0) await pause(5);
      killed.kill('SIGKILL');
      await death;
      await removeCachedPreset(name);
      expect(await cached()).toEqual([]);
    } finally {
      for (const [key, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[key];
        else process.env[key] = value;
      }
    }
  },
  60_000,
);

test('two processes at once fetch no byte twice', async () => {
  const home = join(root, 'both');
  server.pace = 1;
  server.asked.length = 0;
  const ends = await Promise.all([0, 1].map(() => finished(start('kaggle://a/b/keras/c/1', home))));
  expect(ends.map(({code}) => code)).toEqual([0, 0]);
  expect(check('kaggle://a/b/keras/c/1', home)).toBe(true);
  const asked = server.downloads.filter(({host}) => host === 'storage').map(({path, range}) => `${path} ${range}`);
  expect(new Set(asked).size).toBe(asked.length);
}, 60_000);

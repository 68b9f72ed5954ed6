/** `gemma3 download` and `gemma3 cache`. */
import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {ROOT} from '../support/fixtures';
import {HubServer} from '../support/hub_server';
import {run} from './run';

const NAME = 'kaggle://keras/gemma3/keras/gemma3_tiny';
const PRESET = join(ROOT, 'presets/gemma3_tiny');

let server: HubServer;
let root: string;
let folder: string;
const before = process.env;

beforeAll(async () => {
  server = await new HubServer().start();
  const paths = readdirSync(PRESET, {recursive: true, encoding: 'utf8'}).filter(path => path.includes('.'));
  server.versions['keras/gemma3/keras/gemma3_tiny/1'] = Object.fromEntries(
    paths.map(path => [path, new Uint8Array(readFileSync(join(PRESET, path)))]),
  );
  root = mkdtempSync(join(tmpdir(), 'gemma3-download-'));
  folder = join(root, 'kaggle/models/keras/gemma3/keras/gemma3_tiny/1');
  process.env = {
    ...before, KAGGLEHUB_CACHE: join(root, 'kaggle'), HF_HOME: join(root, 'hf'), XDG_CACHE_HOME: join(root, 'cache'),
    KAGGLE_API_ENDPOINT: server.hub, KAGGLE_API_TOKEN: 'token',
  }; // prettier-ignore
});
afterAll(async () => {
  process.env = before;
  await server.stop();
  rmSync(root, {recursive: true});
});

test('nothing was downloaded', async () => {
  expect((await run(['cache', 'list'])).stdout).toBe('No models have been downloaded.\n');
  expect(await run(['download', NAME, '--offline'])).toMatchObject({
    code: 1, stdout: '', stderr: expect.stringContaining('since downloads are switched off') as string,
  }); // prettier-ignore
});

test('Ctrl-C ends a download, and nothing half is in place', async () => {
  const stop = new AbortController();
  server.pace = 3;
  server.fault = ({host, path}) => {
    if (host === 'storage' && path.includes('model.weights.h5')) stop.abort(new Error('Interrupted.'));
    return undefined;
  };
  const {code} = await run(['download', NAME], {signal: stop.signal});
  server.pace = 0;
  server.fault = () => undefined;
  expect(code).toBe(130);
  expect(existsSync(`${folder}.complete`)).toBe(false);
  expect(existsSync(join(folder, 'model.weights.h5'))).toBe(false);
});

test('a model is downloaded, used, copied, verified and removed', async () => {
  const {code, stdout} = await run(['download', NAME]);
  expect([code, stdout]).toEqual([
    0,
    expect.stringMatching(new RegExp(`^${folder}: 8 files, [\\d.]+ .B in [\\d.]+ s\n$`)),
  ]);
  expect((await run(['download', NAME])).stdout).toBe(`${folder}: 8 files, all of them were there already\n`);
  const {stdout: text} = await run(['generate', '--preset', `${NAME}/1`, '--max-length', '8', 'What is']);
  expect(text.length).toBeGreaterThan(1);
  const copied = JSON.parse((await run(['download', NAME, '--to', join(root, 'copy'), '--json'])).stdout) as object;
  expect(copied).toMatchObject({name: `${NAME}/1`, folder: join(root, 'copy'), received: 0});
  expect(readFileSync(join(root, 'copy/config.json'))).toEqual(readFileSync(join(PRESET, 'config.json')));

  expect((await run(['cache', 'list'])).stdout).toMatch(/^NAME .*\nkaggle:.*\/1 +[\d.]+ MB {2}complete {2}/);
  expect(await run(['cache', 'verify', NAME])).toMatchObject({code: 0, stdout: `${NAME}/1: 8 files compared\n`});
  writeFileSync(join(folder, 'config.json'), '{}');
  expect(await run(['cache', 'verify'])).toMatchObject({
    code: 1, stdout: expect.stringContaining('1 damaged\n  config.json has 2 bytes instead of') as string,
  }); // prettier-ignore
  expect((await run(['cache', 'verify', '--repair'])).code).toBe(1);
  expect((await run(['download', NAME])).stdout).toMatch(/8 files, [\d.]+ kB in/);
  expect((await run(['cache', 'remove', NAME])).stdout).toMatch(/^kaggle:.*\/1: removed, [\d.]+ MB\n$/);
  expect(existsSync(folder)).toBe(false);
});

test.each([
  [['download'], 2, "missing required argument 'NAME'"],
  [['download', './folder'], 1, 'Expected the name of a model to download, such as kaggle://'],
  [['cache', 'list', 'x'], 2, "'cache list' takes no name"],
  [['cache', 'remove'], 2, "'cache remove' needs a name"],
  [['cache', 'remove', NAME], 1, 'Expected the name of a model in the cache'],
  [['cache', 'list', '--repair'], 2, "option '--repair' has no effect with 'list'"],
  [['cache', 'empty'], 2, 'Allowed choices are list, remove, verify'],
])('%j', async (argv, code, message) => {
  const result = await run(argv);
  expect([result.code, result.stderr]).toEqual([code, expect.stringContaining(message)]);
});

/** `gemma3 inspect` of models on hubs and servers: configuration and headers are read by ranges, and nothing is stored. */
import {existsSync, mkdtempSync, readdirSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {type PresetFacts} from '../../cli/support/preset_facts';
import {convertPreset, Gemma3Backbone} from '../../src';
import {openCheckpoint} from '../../src/checkpoints/open_checkpoint';
import {MemoryPreset} from '../../src/public/files';
import {fixture, fixtureBytes, fixtureNames, TINY_PRESET} from '../support/fixtures';
import {type Asked, HubServer, SECRET} from '../support/hub_server';
import {serveFiles} from '../support/file_server';
import {run} from './run';

const filesOf = (folder: string): Record<string, Uint8Array> =>
  Object.fromEntries(
    readdirSync(folder, {recursive: true, encoding: 'utf8'})
      .filter(path => path.includes('.'))
      .map(path => [path, new Uint8Array(readFileSync(join(folder, path)))]),
  );

let server: HubServer;
let root: string;
const before = process.env;
const tiny = filesOf(TINY_PRESET);

beforeAll(async () => {
  server = await new HubServer().start();
  server.versions['keras/gemma3/keras/gemma3_tiny/1'] = tiny;
  server.repositories['owner/keras'] = tiny;
  server.repositories['owner/safetensors'] = filesOf(fixture('huggingface/shards'));
  server.repositories['owner/gguf'] = Object.fromEntries(
    fixtureNames('gguf').filter(name => name.endsWith('.gguf')).map(name => [name, fixtureBytes(`gguf/${name}`)]),
  ); // prettier-ignore
  root = mkdtempSync(join(tmpdir(), 'gemma3-inspect-'));
  process.env = {
    ...before, KAGGLEHUB_CACHE: join(root, 'kaggle'), HF_HOME: join(root, 'hf'), XDG_CACHE_HOME: join(root, 'cache'),
    HF_ENDPOINT: server.hub, KAGGLE_API_ENDPOINT: server.hub, HF_TOKEN: SECRET, KAGGLE_API_TOKEN: SECRET,
  }; // prettier-ignore
});
beforeEach(() => {
  server.asked.length = 0;
  server.fault = () => undefined;
});
afterAll(async () => {
  process.env = before;
  await server.stop();
  rmSync(root, {recursive: true});
});

async function facts(preset: string): Promise<PresetFacts> {
  const {code, stdout, stderr} = await run(['inspect', preset, '--json']);
  expect({code, stderr}).toEqual({code: 0, stderr: ''});
  return JSON.parse(stdout) as PresetFacts;
}

/** Facts that do not depend on where the files are. */
const essence = ({preset: _p, source: _s, ...rest}: PresetFacts) => rest;

/** Number of bytes that were requested. */
function bytesAsked(asked: readonly Asked[]): number {
  return asked.reduce((sum, {range}) => {
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
    return sum + (first === undefined ? 0 : Number(last) - Number(first) + 1);
  }, 0);
}

test.each([
  ['kaggle://keras/gemma3/keras/gemma3_tiny', TINY_PRESET],
  ['hf://owner/keras', TINY_PRESET],
  ['hf://owner/safetensors', fixture('huggingface/shards')],
  ['hf://owner/gguf/text_q8_0.gguf', fixture('gguf/text_q8_0.gguf')],
])('%s', async (name, local) => {
  const found = await facts(name);
  expect(essence(found)).toEqual(essence(await facts(local)));
  expect(found.variables.length).toBeGreaterThan(5);
  expect(Object.values(found.memory!).every(bytes => bytes > 0)).toBe(true);
  // Every request for a file is for a range, and nothing is in the cache.
  expect(server.downloads.length).toBeGreaterThan(0);
  expect(server.downloads.every(({range}) => range !== undefined)).toBe(true);
  expect(['kaggle', 'hf', 'cache'].filter(folder => existsSync(join(root, folder)))).toEqual([]);
  // Credentials go to the hub only.
  expect(server.asked.every(({host, authorization}) => host === 'hub' || authorization === undefined)).toBe(true);
});

test('of large weights, only what describes them is requested', async () => {
  const backbone = new Gemma3Backbone({
    vocabularySize: 40_000, numLayers: 2, numQueryHeads: 2, numKeyValueHeads: 1, hiddenDim: 64, intermediateDim: 128,
    headDim: 16, imageSize: null,
  }); // prettier-ignore
  const preset = new MemoryPreset();
  await backbone.saveToPreset(preset);
  backbone.dispose();
  server.repositories['owner/large'] = Object.fromEntries(preset.files);
  const {parameters} = await facts('hf://owner/large');
  expect(parameters).toBeGreaterThan(2.5e6);
  const asked = server.downloads.filter(({host}) => host === 'storage');
  expect(bytesAsked(asked)).toBeLessThan(0.15 * preset.files.get('model.weights.h5')!.length);
});

test('requests that fail are repeated, and the weights of an open preset can be read', async () => {
  let failed = 0;
  server.fault = ({host}) => (host === 'storage' && failed++ < 2 ? 'half' : undefined);
  const checkpoint = await openCheckpoint('hf://owner/keras', {download: false});
  const backbone = await Gemma3Backbone.fromPreset(checkpoint);
  const local = await Gemma3Backbone.fromPreset(TINY_PRESET);
  const values = (model: Gemma3Backbone) =>
    Array.from((model.layerNorm.weights[0]!.read() as {dataSync(): ArrayLike<number>}).dataSync());
  expect(values(backbone)).toEqual(values(local));
  expect(failed).toBeGreaterThan(3);
  await checkpoint.close();
  for (const model of [backbone, local]) model.dispose();
  expect(existsSync(join(root, 'hf'))).toBe(false);
}, 120_000);

test('a gated model is refused with advice', async () => {
  server.gated.set('keras/gemma3/keras/gemma3_tiny', 'everyone');
  const {code, stderr} = await run(['inspect', 'kaggle://keras/gemma3/keras/gemma3_tiny']);
  server.gated.clear();
  expect([code, stderr]).toEqual([1, expect.stringMatching(/HTTP 403.*accept the licence/)]);
});

test('an address: only the beginning of the weights is requested', async () => {
  const files = await serveFiles(TINY_PRESET);
  try {
    const found = await facts(files.address);
    expect(essence(found)).toEqual(essence(await facts(TINY_PRESET)));
    expect(files.log.filter(line => line.includes('model.weights.h5')).every(line => /bytes=/.test(line))).toBe(true);
  } finally {
    await files.close();
  }
});

test('convertPreset takes headers and fetch, as fromPreset does', async () => {
  const files = await serveFiles(fixture('backbone/post_norms'), {authorization: 'Bearer mine'});
  let called = 0;
  const counting: typeof fetch = (...args) => {
    called++;
    return fetch(...args);
  };
  try {
    const target = new MemoryPreset();
    await expect(convertPreset(files.address, target, {to: 'keras'})).rejects.toThrow(/401|expected/i);
    const headers = {Authorization: 'Bearer mine'};
    const {parameters} = await convertPreset(files.address, target, {to: 'keras', headers, fetch: counting});
    expect(parameters).toBeGreaterThan(0);
    expect(called).toBeGreaterThan(2);
    await expect(convertPreset(fixture('backbone/post_norms'), target, {to: 'keras', headers})).rejects.toThrow(
      /headers only with the http\(s\) address/,
    );
  } finally {
    await files.close();
  }
});

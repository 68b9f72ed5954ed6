/** A local imitation of the hubs before each test of a file, with models, and caches in a temporary folder. */
import {mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {hubOf} from '../../src/hub/all';
import {downloadFiles, type DownloadSettings} from '../../src/hub/download';
import {Requests} from '../../src/hub/requests';
import {HubServer, SECRET} from './hub_server';
import {randomBytes} from './random_bytes';

export const text = (value: string) => new TextEncoder().encode(value);

export const KAGGLE = 'kaggle://keras/gemma3/keras/gemma3_270m';
export const HANDLE = 'keras/gemma3/keras/gemma3_270m';
export const HF = 'hf://google/gemma-3-270m-it';

export const KAGGLE_FILES = {
  'config.json': text('{"class_name": "Gemma3Backbone"}'),
  'tokenizer.json': text('{}'),
  'metadata.json': text(''),
  'assets/tokenizer/vocabulary.spm': randomBytes(300_000, 1),
  'model.weights.h5': randomBytes(1_000_001, 2),
};
export const HF_FILES = {
  'config.json': text('{"model_type": "gemma3_text"}'),
  '.gitattributes': text('*'),
  'README.md': text('# Gemma'),
  'tokenizer.json': randomBytes(400_000, 3),
  'tokenizer.model': randomBytes(1000, 4),
  'model-00001-of-00002.safetensors': randomBytes(700_000, 5),
  'model-00002-of-00002.safetensors': randomBytes(300_000, 6),
  'pytorch_model.bin': randomBytes(100, 7),
  'onnx/config.json': text('{}'),
  'model.gguf': randomBytes(500, 8),
  'sub/config.json': text('{"sub": 1}'),
  'sub/model.safetensors': randomBytes(5000, 9),
};
export const CHOSEN = [
  'config.json', 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors', 'sub/config.json',
  'sub/model.safetensors', 'tokenizer.json', 'tokenizer.model',
]; // prettier-ignore

export let server: HubServer;
export let root: string;
const before = process.env;

beforeEach(async () => {
  server = await new HubServer().start();
  server.versions[`${HANDLE}/2`] = {'config.json': text('old')};
  server.versions[`${HANDLE}/3`] = KAGGLE_FILES;
  server.repositories['google/gemma-3-270m-it'] = HF_FILES;
  root = mkdtempSync(join(tmpdir(), 'gemma3-hub-'));
  process.env = {
    PATH: before.PATH,
    HOME: root,
    HF_ENDPOINT: server.hub,
    KAGGLE_API_ENDPOINT: server.hub,
    HF_HOME: join(root, 'hf'),
    KAGGLEHUB_CACHE: join(root, 'kaggle'),
    XDG_CACHE_HOME: join(root, 'cache'),
    HF_TOKEN: SECRET,
    KAGGLE_API_TOKEN: SECRET,
  };
});
afterEach(async () => {
  process.env = before;
  await server.stop();
  rmSync(root, {recursive: true});
});

export const kaggleFolder = () => join(root, 'kaggle/models', HANDLE);
export const repository = () => join(root, 'hf/hub/models--google--gemma-3-270m-it');

export function expectFiles(folder: string, files: Record<string, Uint8Array>): void {
  for (const [path, bytes] of Object.entries(files)) {
    expect([path, Buffer.compare(readFileSync(join(folder, path)), bytes)]).toEqual([path, 0]);
  }
}

/** Downloads as `downloadPreset` does, with small ranges and without waiting. */
export async function download(name: string, settings: Partial<DownloadSettings> = {}): Promise<number> {
  const requests = new Requests(undefined, settings.signal, {idle: 300, retries: 5, sleep: async () => {}});
  const model = await hubOf(name)!.find(name, {offline: false, requests});
  if (model.files === null) return 0;
  return downloadFiles(model, model.files, true, {
    requests, signal: undefined, onProgress: undefined, chunk: 100_000, connections: 4, ...settings,
  }); // prettier-ignore
}

export const noLeaks = () => {
  for (const {host, authorization} of server.asked) if (host !== 'hub') expect(authorization).toBeUndefined();
};

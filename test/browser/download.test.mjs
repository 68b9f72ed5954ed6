/**
 * Downloads in Chromium, from a local imitation of Hugging Face into the private file system: stopped, continued after a
 * reload, read without the network. Needs Chromium at /usr/bin/chromium, or the path in CHROMIUM.
 */
import assert from 'node:assert/strict';
import {createHash} from 'node:crypto';
import {existsSync, readdirSync, readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {dirname, join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';
import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import {serve} from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const QUESTION = 'What is the capital of France?';
const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const PRESET = join(root, 'presets/gemma3_tiny');

const page = `
import {cachedPresets, downloadPreset, Gemma3CausalLM, removeCachedPreset, useBackend, verifyCachedPresets} from 'tfjs-gemma3';
/** The hub is on this computer. */
const fetchAt = hub => (address, options) => fetch(String(address).replace('https://huggingface.co', hub), options);
globalThis.answer = async (hub, question, {stopAt = Infinity, offline = false} = {}) => {
  await useBackend('cpu');
  const stop = new AbortController();
  const onDownload = ({file, loaded, total}) => {
    if (file === 'model.weights.h5' && loaded > stopAt * total) stop.abort(new Error('stopped'));
  };
  const options = {fetch: fetchAt(hub), onDownload, signal: stop.signal, offline};
  const lm = await Gemma3CausalLM.fromPreset('hf://google/tiny', options);
  const text = await lm.generate(question, {maxLength: 24});
  lm.dispose();
  return text;
};
globalThis.cache = async () => {
  const models = await cachedPresets();
  const verified = await verifyCachedPresets();
  return {names: models.map(({name, complete}) => [name, complete]), damaged: verified.flatMap(({damaged}) => damaged)};
};
/** Keeps a copy of a folder of this server, and reads it without requests. */
globalThis.kept = async (address, question) => {
  await useBackend('cpu');
  const {received} = await downloadPreset(address);
  const ask = globalThis.fetch;
  globalThis.fetch = () => Promise.reject(new Error('asked'));
  const lm = await Gemma3CausalLM.fromPreset(address, {offline: true});
  const text = await lm.generate(question, {maxLength: 24});
  lm.dispose();
  globalThis.fetch = ask;
  const again = await downloadPreset(address);
  const removed = (await removeCachedPreset(address)).map(({name, bytes, complete}) => ({name, bytes, complete}));
  return {text, received, again: again.received, removed, left: await cachedPresets()};
};
globalThis.empty = async () => {
  await removeCachedPreset('hf://google/tiny');
  return cachedPresets();
};
`;

/** The parts of Hugging Face's API that are needed, for pages of other origins. */
async function startHub() {
  const paths = readdirSync(PRESET, {recursive: true}).filter(path => /\.\w+$/.test(path));
  const files = Object.fromEntries(paths.map(path => [path, readFileSync(join(PRESET, path))]));
  const asked = [];
  const hub = {asked, pace: 0};
  const server = createServer((request, response) => {
    const {pathname} = new URL(request.url, 'http://localhost');
    const headers = {
      'Access-Control-Allow-Origin': '*',
      'Access-Control-Allow-Headers': '*',
      'Access-Control-Expose-Headers': 'Content-Range, ETag, Link, X-Error-Code',
    };
    if (request.method === 'OPTIONS') return response.writeHead(204, headers).end();
    const json = value =>
      response.writeHead(200, {...headers, 'Content-Type': 'application/json'}).end(JSON.stringify(value));
    if (pathname.includes('/revision/')) return json({sha: COMMIT});
    if (pathname.includes('/tree/')) {
      const entries = Object.entries(files).map(([path, bytes]) => {
        const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
        const lfs = {oid: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, pointerSize: 1};
        return {type: 'file', path, size: bytes.length, oid, ...(/h5|spm/.test(path) && {lfs})};
      });
      return json(entries);
    }
    const bytes = files[pathname.split('/').slice(5).join('/')];
    if (!bytes) return response.writeHead(404, headers).end();
    const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range);
    const end = Math.min(Number(last) + 1, bytes.length);
    asked.push({path: pathname.split('/').slice(5).join('/'), start: Number(first), end});
    response.writeHead(206, {
      ...headers,
      'Content-Type': 'application/octet-stream',
      'Content-Range': `bytes ${first}-${end - 1}/${bytes.length}`,
      'Content-Length': end - Number(first),
    });
    const step = at => {
      if (at >= end || response.destroyed) return response.end();
      response.write(bytes.subarray(at, Math.min(at + 65536, end)));
      setTimeout(() => step(at + 65536), hub.pace);
    };
    step(Number(first));
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  hub.address = `http://127.0.0.1:${server.address().port}`;
  hub.close = () => server.close() && server.closeAllConnections();
  return hub;
}

let hub;
let server;
let browser;
let context;
let expected;
before(async () => {
  assert.ok(existsSync(executablePath), `Expected Chromium at ${executablePath}: install it, or set CHROMIUM.`);
  const bundle = await build({
    stdin: {contents: page, resolveDir: root},
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'error',
  });
  hub = await startHub();
  const html = '<!doctype html><script type="module" src="/page.js"></script>';
  server = await serve(root, {'/page.js': bundle.outputFiles[0].text, '/page.html': html});
  browser = await chromium.launch({executablePath, args: ['--no-sandbox']});
  context = await browser.newContext();
  await useBackend('cpu');
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  expected = await lm.generate(QUESTION, {maxLength: 24});
  lm.dispose();
});
after(async () => {
  await browser?.close();
  await server?.close();
  hub?.close();
});

async function inPage(run, ...args) {
  const tab = await context.newPage();
  try {
    await tab.goto(`${server.address}/page.html`);
    await tab.waitForFunction(() => globalThis.answer !== undefined);
    return await tab.evaluate(run, ...args);
  } finally {
    await tab.close();
  }
}

const answer = options =>
  inPage(
    ([hub, question, options]) => globalThis.answer(hub, question, options).catch(String),
    [hub.address, QUESTION, options],
  );

test('a download that was stopped continues in another page', async () => {
  hub.pace = 5;
  assert.match(await answer({stopAt: 0.6}), /stopped/);
  const weights = hub.asked.filter(({path}) => path === 'model.weights.h5');
  assert.equal(weights.length, 1);
  hub.pace = 0;
  assert.equal(await answer({}), expected);
  const [again] = hub.asked.filter(({path}) => path === 'model.weights.h5').slice(1);
  assert.ok(again.start > 0.5 * again.end, `Continued at ${again.start} of ${again.end}.`);
});

test('then it is read without the network, verified and removed', async () => {
  const {length} = hub.asked;
  assert.equal(await answer({offline: true}), expected);
  assert.equal(hub.asked.length, length);
  assert.deepEqual(await inPage(() => globalThis.cache()), {names: [['hf://google/tiny', true]], damaged: []});
  assert.deepEqual(await inPage(() => globalThis.empty()), []);
  assert.match(await answer({offline: true}), /since downloads are switched off/);
});

test('a copy of a folder at a web address is read without the network', async () => {
  const address = `${server.address}/presets/gemma3_tiny`;
  const {removed, received, ...rest} = await inPage(
    ([preset, question]) => globalThis.kept(preset, question),
    [address, QUESTION],
  );
  assert.deepEqual(rest, {text: expected, again: 0, left: []});
  assert.deepEqual(removed, [{name: address, bytes: removed[0].bytes, complete: true}]);
  assert.ok(received > 3e6 && removed[0].bytes >= received);
});

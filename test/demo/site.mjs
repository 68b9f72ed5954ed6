/** The page in `demo`, built and served as `npm run demo` does, in Chromium; and a separate host of models. */
import assert from 'node:assert/strict';
import {existsSync, readdirSync, readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {chromium} from 'playwright-core';
import {preview} from 'vite';
import {options} from '../../scripts/demo.mjs';
import {startRecorder} from './recorder.mjs';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const built = join(root, 'demo/dist');
export const QUESTION = 'What is the capital of France?';
export const ANSWER = 'The capital of France is Paris.';
export const picture = name => join(root, `test/fixtures/tiny_preset/pictures/${name}.png`);

/** Serves the page with its headers. → {address, close()} */
export async function startSite() {
  assert.ok(existsSync(join(built, 'index.html')), 'Expected the page in demo/dist. Run `npm run demo:static` first.');
  const server = await preview({
    ...options,
    logLevel: 'warn',
    build: {outDir: built},
    preview: {host: '127.0.0.1', port: 0, strictPort: false},
  });
  const {port} = server.httpServer.address();
  return {address: `http://127.0.0.1:${port}`, close: () => server.close()};
}

const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

export const startBrowser = (args = ['--disable-gpu']) =>
  chromium.launch({
    executablePath,
    args: [
      ...args,
      '--no-sandbox',
      '--no-first-run',
      '--disable-background-networking',
      // Else it asks its makers what fields are for.
      '--disable-features=AutofillServerCommunication',
      '--use-fake-device-for-media-stream',
      '--use-fake-ui-for-media-stream',
    ],
  });

/** The browser's messages when there is no network, or a server refuses. */
const LOST = /ERR_INTERNET_DISCONNECTED|ERR_FAILED|ERR_CONNECTION|ERR_EMPTY|ERR_TUNNEL|status of [45]/;

/**
 * A user with a separate browser: {context, problems, hosts, open(address)}. Problems are errors of the page, and what
 * its policy forbids. Hosts are all hosts that were contacted: all requests, including those of Workers, go through a
 * proxy.
 */
export async function newPerson(browser, settings = {}) {
  const recorder = await startRecorder();
  const context = await browser.newContext({
    viewport: {width: 1280, height: 800},
    acceptDownloads: true,
    proxy: {server: recorder.address, bypass: '<-loopback>'},
    ...settings,
  });
  context.on('close', () => recorder.close());
  const person = {context, problems: [], hosts: recorder.hosts};
  person.open = async address => {
    const page = await context.newPage();
    page.on('pageerror', error => person.problems.push(String(error)));
    page.on('console', message => {
      if (message.type() === 'error' && !LOST.test(message.text())) person.problems.push(message.text());
    });
    await page.goto(address);
    return page;
  };
  return person;
}

/** Waits until a model is loaded, and says which backend it runs on. */
export async function ready(page, label = 'gemma3_tiny') {
  // Asked again and again: what waits within a page is lost where the page is just being loaded again.
  const isReady = () =>
    page
      .evaluate(
        name =>
          document.body.dataset.state === 'ready' && document.querySelector('#where-text').textContent.startsWith(name),
        label,
      )
      .catch(() => false);
  for (const end = Date.now() + 60_000; !(await isReady());) {
    if (Date.now() > end) throw new Error(`Expected ${label} to be ready within a minute.`);
    await new Promise(resolve => setTimeout(resolve, 100));
  }
  return (await page.locator('#where-text').textContent()).split(' · ')[1];
}

/** Asks something in the chat, and returns the answer. */
export async function ask(page, question) {
  const before = await page.locator('.message').count();
  await page.getByRole('textbox', {name: 'Message'}).fill(question);
  await page.keyboard.press('Enter');
  return answer(page, before + 2);
}

/** The last answer, when there are that many messages and none is being written. */
export async function answer(page, messages) {
  await page.waitForFunction(
    count =>
      document.querySelectorAll('.message').length === count &&
      !document.querySelector('[aria-busy=true]') &&
      !document.querySelector('#send').hidden,
    messages,
    {timeout: 30_000},
  );
  return (await page.locator('.message.assistant .body').last().innerText()).trim();
}

/** Waits until the service worker has kept all files of the page. */
export const kept = page =>
  page.waitForFunction(
    async () => {
      const script = await (await fetch(new URL('service_worker.js', document.baseURI))).text();
      const files = JSON.parse(/FILES=(\[.*?\]);/.exec(script)[1]);
      const [name] = (await caches.keys()).filter(key => key.startsWith('gemma3-demo-'));
      const cache = name && (await caches.open(name));
      if (!cache || (await cache.keys()).length !== files.length) return false;
      // A file may still be written.
      for (const file of files) {
        const stored = await cache.match(new URL(file, document.baseURI));
        if (!(await stored?.arrayBuffer())) return false;
      }
      return true;
    },
    undefined,
    {timeout: 30_000, polling: 200},
  );

const PRESET = join(root, 'presets/gemma3_tiny');
const PIECE = 64 * 1024;

/**
 * A host of models, on another origin than the page: the small preset at /tiny. → {address, pace, fault, asked, close()}
 *
 * `pace` is the time in milliseconds between one 64 kB and the next; `fault(n, path)` may return "cut" for request n, or a status.
 */
export async function startHost() {
  const paths = readdirSync(PRESET, {recursive: true}).filter(path => /\.\w+$/.test(path));
  const files = Object.fromEntries(paths.map(path => [`/tiny/${path}`, readFileSync(join(PRESET, path))]));
  files['/one/tiny.gguf'] = readFileSync(join(root, 'test/fixtures/gguf/tiny.gguf'));
  const host = {pace: 0, fault: () => undefined, asked: []};
  const server = createServer((request, response) => {
    const {pathname} = new URL(request.url, 'http://localhost');
    const headers = {
      'Access-Control-Allow-Origin': '*',
      'Access-Control-Allow-Headers': '*, authorization',
      'Access-Control-Expose-Headers': 'Content-Range, ETag, Link, X-Error-Code',
    };
    if (request.method === 'OPTIONS') return response.writeHead(204, headers).end();
    host.asked.push({path: pathname, range: request.headers.range, authorization: request.headers.authorization});
    const fault = host.fault(host.asked.length, pathname);
    if (typeof fault === 'number') return response.writeHead(fault, headers).end();
    const bytes = files[pathname];
    if (!bytes) return response.writeHead(404, headers).end();
    const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const start = Number(first);
    const end = last ? Math.min(Number(last) + 1, bytes.length) : bytes.length;
    response.writeHead(request.headers.range ? 206 : 200, {
      ...headers,
      'Content-Type': pathname.endsWith('.json') ? 'application/json' : 'application/octet-stream',
      'Content-Length': end - start,
      ...(request.headers.range && {'Content-Range': `bytes ${start}-${end - 1}/${bytes.length}`}),
    });
    if (request.method === 'HEAD') return response.end();
    const step = at => {
      if (response.destroyed) return;
      if (fault === 'cut' && at > start) return response.destroy();
      if (at + PIECE >= end) return response.end(bytes.subarray(at, end));
      response.write(bytes.subarray(at, Math.min(at + PIECE, end)));
      setTimeout(() => step(at + PIECE), host.pace);
    };
    step(start);
  });
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve));
  host.address = `http://127.0.0.1:${server.address().port}`;
  host.close = () => server.close() && server.closeAllConnections();
  return host;
}

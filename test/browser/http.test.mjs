/**
 * Presets in Chromium from servers that behave in many ways, on the page's origin and on another one, and pages whose
 * Content-Security-Policy refuses something. Needs Chromium at /usr/bin/chromium, or the path in CHROMIUM.
 */
import assert from 'node:assert/strict';
import {readdirSync, readFileSync} from 'node:fs';
import {availableParallelism} from 'node:os';
import {dirname, join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';
import {serve} from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const folder = join(root, 'test/fixtures/backbone/defaults');
const expected = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'));

const threads = availableParallelism() > 1 ? /, [2-8] threads"/ : /, 1 thread"/;

const page = `
import * as tf from '@tensorflow/tfjs';
import {describeBackends, Gemma3Backbone, Gemma3CausalLM, Gemma3ImageConverter, useBackend} from 'tfjs-gemma3';
/** The hidden states of a preset, or the message of the error. */
globalThis.hiddenOf = async (address, {token_ids, padding_mask, batch, length}, options) => {
  try {
    await useBackend();
    const backbone = await Gemma3Backbone.fromPreset(address, options);
    const shape = [batch, length];
    const inputs = {
      token_ids: tf.tensor2d(token_ids, shape, 'int32'),
      padding_mask: tf.tensor2d(padding_mask, shape, 'int32'),
    };
    return Array.from(await backbone.predict(inputs).data());
  } catch (error) {
    return error.message;
  }
};
globalThis.answerWith = async (address, question) => {
  const backend = await useBackend();
  const answer = await (await Gemma3CausalLM.fromPreset(address)).generate(question, {maxLength: 32});
  return {backend, answer, backends: await describeBackends()};
};
globalThis.imageAt = async (url, headers) => {
  const pixels = await new Gemma3ImageConverter().call({url, headers}).catch(error => error.message);
  return pixels.shape ?? pixels;
};
`;

const bundled = async (contents, platform = 'browser', loader = 'js') => {
  const bundle = await build({
    stdin: {contents, resolveDir: root, loader},
    bundle: true,
    format: 'esm',
    platform,
    write: false,
    logLevel: 'error',
  });
  return bundle.outputFiles[0].text;
};

/** That server is written in TypeScript, which not every Node reads. */
const code = await bundled(`export * from './test/support/file_server';`, 'node');
const {HABITS, serveFiles} = await import(`data:text/javascript;base64,${Buffer.from(code).toString('base64')}`);

let browser;
let script;
let pages;
before(async () => {
  script = await bundled(page);
  const html = '<!doctype html><script type="module" src="/page.js"></script>';
  const policies = {
    'no_wasm.html': "script-src 'self'",
    'isolated/no_worker.html': "worker-src 'none'",
    'isolated/trusted.html': "require-trusted-types-for 'script'",
    'isolated/trusted_other.html': "require-trusted-types-for 'script'; trusted-types default",
    'isolated/trusted_none.html': "require-trusted-types-for 'script'; trusted-types 'none'",
  };
  pages = await serve(root, {
    '/page.html': html,
    '/page.js': script,
    '/isolated/page.js': script,
    ...Object.fromEntries(
      Object.entries(policies).map(([path, policy]) => [
        `/${path}`,
        {
          text: path.startsWith('isolated') ? html.replace('/page.js', '/isolated/page.js') : html,
          headers: {'content-security-policy': policy},
        },
      ]),
    ),
  });
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  });
});
after(async () => {
  await browser?.close();
  await pages?.close();
});

/** Opens a page that has the functions above. */
async function open(address) {
  const tab = await browser.newPage();
  const messages = [];
  tab.on('console', message => messages.push(message.text()));
  tab.on('pageerror', error => messages.push(String(error)));
  await tab.goto(address);
  await tab
    .waitForFunction(() => 'hiddenOf' in globalThis)
    .catch(error => {
      throw new Error(`Expected a page. Received: ${messages.join(' ')}`, {cause: error});
    });
  return {tab, messages};
}

const hiddenOf = (tab, address, options) =>
  tab.evaluate(args => globalThis.hiddenOf(...args), [address, {...expected, hidden: undefined}, options]);

function checkHidden(hidden) {
  assert.equal(typeof hidden, 'object', hidden);
  const worst = expected.hidden.reduce((most, value, i) => Math.max(most, Math.abs(value - hidden[i])), 0);
  assert.equal(hidden.length, expected.hidden.length);
  assert.ok(worst < 1e-4, `off by ${worst}`);
}

for (const [title, habits, ending] of HABITS) {
  test(`same origin: ${title}`, async () => {
    const names = readdirSync(folder, {recursive: true, withFileTypes: true}).filter(entry => entry.isFile());
    const files = Object.fromEntries(names.map(({name}) => [name, readFileSync(join(folder, name))]));
    const inline = `<!doctype html><script type="module">${script.replaceAll('</script', '<\\/script')}</script>`;
    let opened = false;
    // Requests count from the page's on.
    let before = 0;
    const fault = (n, path) => (opened ? habits.fault?.(n - before, path) : void (before = n));
    const server = await serveFiles({...files, 'page.html': Buffer.from(inline)}, {...habits, fault});
    const query = ending.includes('?') ? ending.slice(ending.indexOf('?')) : '';
    const {tab} = await open(`${server.address}/page.html${query}`);
    opened = true;
    // Relative to the document.
    checkHidden(await hiddenOf(tab, ending === '' ? './' : `.${ending.startsWith('/') ? '' : '/'}${ending}`));
    assert.deepEqual(
      server.log.filter(line => line.startsWith('HEAD')),
      [],
    );
    await tab.close();
    await server.close();
  });
}

test('another origin, with and without its headers', async () => {
  const {tab} = await open(`${pages.address}/page.html`);
  for (const cors of [[], ['content-range', 'content-encoding', 'etag']]) {
    for (const [title, habits, ending] of HABITS) {
      const server = await serveFiles(folder, {...habits, cors});
      const hidden = await hiddenOf(tab, server.address + ending);
      if (typeof hidden === 'string') assert.fail(`${title}, ${cors}: ${hidden}`);
      checkHidden(hidden);
      await server.close();
    }
  }
  const server = await serveFiles(folder, {cors: [], authorization: 'Bearer abc'});
  checkHidden(await hiddenOf(tab, server.address, {headers: {authorization: 'Bearer abc'}}));
  const refused = await hiddenOf(tab, server.address);
  assert.match(refused, /HTTP 401/);
  assert.ok(refused.includes(server.address), refused);
  await server.close();
  await tab.close();
});

test('another origin that lets pages read nothing', async () => {
  const {tab} = await open(`${pages.address}/page.html`);
  const server = await serveFiles(folder);
  const message = await hiddenOf(tab, server.address);
  assert.match(message, /Expected a response from .*allows requests from this origin/);
  assert.ok(message.includes(server.address), message);
  await server.close();
  await tab.close();
});

test('an image of another origin, with headers', async () => {
  const {tab} = await open(`${pages.address}/page.html`);
  const pictures = join(root, 'test/fixtures/tiny_preset/pictures');
  const server = await serveFiles(pictures, {cors: [], authorization: 'Bearer abc'});
  const args = [`${server.address}/blue_square.png`, {authorization: 'Bearer abc'}];
  assert.equal((await tab.evaluate(args => globalThis.imageAt(...args), args)).length, 3);
  const message = await tab.evaluate(args => globalThis.imageAt(...args), args.slice(0, 1));
  assert.match(message, /Expected an image at .*HTTP 401/);
  await server.close();
  await tab.close();
});

const ONE_THREAD = /It has one thread. Threads are refused: .*trusted-types, add tfjs-gemma3/;
for (const [path, backend, told, warned = told] of [
  ['/no_wasm.html', 'cpu', /[^.]\. If the page has a Content-Security-Policy, add 'wasm-unsafe-eval'/],
  ['/isolated/no_worker.html', 'simd', /It has one thread. Threads are refused: .*add `blob:` to its worker-src/],
  ['/isolated/trusted.html', 'simd', threads, /^(?!.*The backend)/s],
  ['/isolated/trusted_other.html', 'simd', ONE_THREAD],
  ['/isolated/trusted_none.html', 'simd', ONE_THREAD],
]) {
  test(`a policy: ${path}`, async () => {
    const {tab, messages} = await open(pages.address + path);
    const args = [`${pages.address}/presets/gemma3_tiny`, 'What is the capital of France?'];
    const {backend: used, answer, backends} = await tab.evaluate(args => globalThis.answerWith(...args), args);
    assert.equal(used, backend);
    assert.match(answer, /Paris/);
    assert.match(JSON.stringify(backends.find(({name}) => name === 'simd')), told);
    assert.match(messages.join('\n'), warned);
    await tab.close();
  });
}

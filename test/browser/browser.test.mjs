/**
 * The built package in Chromium, bundled as a user would: generates the same text as in Node, with a preset from a
 * static server and from chosen files. Needs Chromium at /usr/bin/chromium, or the path in CHROMIUM.
 */
import assert from 'node:assert/strict';
import {existsSync, readFileSync} from 'node:fs';
import {availableParallelism} from 'node:os';
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

const page = `
import {describeBackends, files, Gemma3CausalLM, Gemma3ImageConverter, useBackend} from 'tfjs-gemma3';
const FILES = [
  'config.json', 'tokenizer.json', 'preprocessor.json', 'model.weights.h5', 'assets/tokenizer/vocabulary.spm',
];
globalThis.answer = async (address, question, asFiles, name) => {
  const backend = await useBackend(name);
  let preset = address;
  if (asFiles) {
    const blobs = await Promise.all(FILES.map(async file => [file, await (await fetch(address + '/' + file)).blob()]));
    preset = new files.BlobPreset(Object.fromEntries(blobs));
  }
  const lm = await Gemma3CausalLM.fromPreset(preset);
  let streamed = '';
  for await (const piece of lm.stream(question, {maxLength: 48})) streamed += piece;
  lm.dispose();
  const details = (await describeBackends()).find(({name}) => name === backend).details;
  return {backend, streamed, details};
};
/** Forms of a picture in a page, by name. */
const formsOf = async address => {
  const blob = await (await fetch(address)).blob();
  const element = new Image();
  element.src = address;
  await element.decode();
  const canvas = document.createElement('canvas');
  canvas.width = element.naturalWidth;
  canvas.height = element.naturalHeight;
  canvas.getContext('2d').drawImage(element, 0, 0);
  const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  return {blob, bytes: await blob.arrayBuffer(), element, canvas, bitmap: await createImageBitmap(blob), data};
};
globalThis.answerAbout = async (address, picture, prompts) => {
  await useBackend('simd');
  const lm = await Gemma3CausalLM.fromPreset(address);
  const answers = {};
  for (const [form, images] of Object.entries(await formsOf(picture))) {
    answers[form] = await lm.generate({prompts, images}, {maxLength: 64});
  }
  const path = await lm.generate({prompts, images: 'picture.png'}).catch(error => error.message);
  const unloaded = await lm.generate({prompts, images: new Image()}).catch(error => error.message);
  lm.dispose();
  return {answers, path, unloaded};
};
globalThis.pixelsOf = async base64 => {
  const image = await new Gemma3ImageConverter().call(await (await fetch('data:;base64,' + base64)).blob());
  return Array.from(await image.data());
};
/** Pixels of a file as a Blob, as bytes, and in the forms that the browser decodes: text of the shape and the values. */
globalThis.formsOfFile = async (base64, type) => {
  const blob = await (await fetch('data:image/' + type + ';base64,' + base64)).blob();
  const element = new Image();
  element.src = URL.createObjectURL(blob);
  await element.decode();
  const bitmap = await createImageBitmap(blob, {colorSpaceConversion: 'none'});
  const forms = {blob, bytes: await blob.arrayBuffer(), element, bitmap};
  const found = {};
  for (const [form, image] of Object.entries(forms)) {
    const pixels = await new Gemma3ImageConverter().call(image);
    found[form] = pixels.shape + ': ' + (await pixels.data());
  }
  return found;
};
globalThis.messageFor = async (address, args = {}, crossOrigin) => {
  const element = new Image();
  if (crossOrigin) element.crossOrigin = crossOrigin;
  element.src = address;
  await element.decode();
  return new Gemma3ImageConverter(args).call(element).then(() => 'pixels', error => error.name + ': ' + error.message);
};
`;

/** The example from docs/worker.md, unchanged, except that the page also asks for the backends. */
const guide = readFileSync(join(root, 'docs/worker.md'), 'utf8');
const example = (language, start) => {
  const blocks = [...guide.matchAll(/^```(\w+)\n([^]*?)^```$/gm)].filter(([, name]) => name === language);
  const found = blocks.find(([, , code]) => code.startsWith(start));
  assert.ok(found, `Expected a ${language} block in docs/worker.md that begins with "${start}".`);
  return found[2];
};
const pageCode = `${example('js', '// page.js')}
globalThis.backends = await worker.describeBackends();
`;

/** Records the times between turns of the page's event loop. */
const watchPage = () => {
  globalThis.waits = [];
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    globalThis.waits.push(now - last);
    last = now;
  }, 4);
};

let server;
let browser;
let expected;
before(async () => {
  assert.ok(existsSync(executablePath), `Expected Chromium at ${executablePath}: install it, or set CHROMIUM.`);
  const bundled = async contents => {
    const bundle = await build({
      stdin: {contents, resolveDir: root},
      bundle: true,
      format: 'esm',
      platform: 'browser',
      write: false,
      logLevel: 'error',
    });
    return bundle.outputFiles[0].text;
  };
  const html = '<!doctype html><script type="module" src="/page.js"></script>';
  const script = await bundled(page);
  const scripts = {'page.js': await bundled(pageCode), 'worker.js': await bundled(example('js', '// worker.js'))};
  const workerPage = {'page.html': example('html', '<!doctype html>'), ...scripts};
  const isolated = html.replace('/page.js', '/isolated/page.js');
  server = await serve(root, {
    '/page.js': script,
    '/page.html': html,
    '/isolated/page.js': script,
    '/isolated/page.html': isolated,
    ...Object.fromEntries(
      ['/worker', '/isolated/worker'].flatMap(folder =>
        Object.entries(workerPage).map(([name, text]) => [`${folder}/${name}`, text]),
      ),
    ),
  });
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  });
  await useBackend('cpu');
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  expected = await lm.generate(QUESTION, {maxLength: 48, stripPrompt: true});
  lm.dispose();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

const CASES = [
  {backend: 'cpu', path: '/page.html', asFiles: false, details: /plain JavaScript/},
  {backend: 'simd', path: '/page.html', asFiles: true, details: /1 thread .*cannot be shared/},
  {backend: 'simd', path: '/isolated/page.html', asFiles: false, details: /WebAssembly with .*SIMD, [1-8] thread/},
];

for (const {backend, path, asFiles, details} of CASES) {
  const from = asFiles ? 'files' : 'a URL';
  test(`${backend} on ${path} answers as in Node, preset from ${from}`, async () => {
    const tab = await browser.newPage();
    const problems = [];
    tab.on('pageerror', error => problems.push(String(error)));
    tab.on('console', message => message.type() === 'error' && problems.push(message.text()));
    await tab.goto(`${server.address}${path}`);
    await tab.waitForFunction(() => 'answer' in globalThis);
    const address = `${server.address}/presets/gemma3_tiny`;
    const result = await tab.evaluate(args => globalThis.answer(...args), [address, QUESTION, asFiles, backend]);
    assert.deepEqual({backend: result.backend, streamed: result.streamed}, {backend, streamed: expected});
    assert.match(result.details, details);
    const serious = problems.filter(problem => !/favicon|404/.test(problem));
    assert.deepEqual(serious, []);
    await tab.close();
  });
}

test('a picture in any form is answered as in Node', async () => {
  const picture = 'test/fixtures/tiny_preset/pictures/blue_square.png';
  const prompts = 'What is in this image? <start_of_image>';
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  const answer = await lm.generate({prompts, images: join(root, picture)}, {maxLength: 64});
  lm.dispose();
  assert.match(answer, /A blue square\.$/);
  const tab = await browser.newPage();
  await tab.goto(`${server.address}/page.html`);
  await tab.waitForFunction(() => 'answerAbout' in globalThis);
  const args = [`${server.address}/presets/gemma3_tiny`, `${server.address}/${picture}`, prompts];
  const {answers, path, unloaded} = await tab.evaluate(args => globalThis.answerAbout(...args), args);
  const forms = ['blob', 'bytes', 'element', 'canvas', 'bitmap', 'data'];
  assert.deepEqual(answers, Object.fromEntries(forms.map(form => [form, answer])));
  assert.match(path, /the path "picture.png", which browsers cannot open/);
  assert.match(unloaded, /Received: 0 x 0. Wait for `image.decode\(\)`/);
  await tab.close();
});

test('the same files have the same pixels as in Node', async () => {
  const files = JSON.parse(readFileSync(join(root, 'test/fixtures/images/files.json'), 'utf8'));
  const tab = await browser.newPage();
  await tab.goto(`${server.address}/page.html`);
  await tab.waitForFunction(() => 'pixelsOf' in globalThis);
  for (const {name, file, pixels} of files) {
    const found = await tab.evaluate(text => globalThis.pixelsOf(text), file);
    assert.deepEqual([name, Buffer.from(found).toString('base64')], [name, pixels]);
  }
  await tab.close();
});

test('WebP, GIF and AVIF files are decoded by the browser, as Pillow does', async () => {
  const files = JSON.parse(readFileSync(join(root, 'test/fixtures/images/other.json'), 'utf8'));
  const tab = await browser.newPage();
  await tab.goto(`${server.address}/page.html`);
  await tab.waitForFunction(() => 'pixelsOf' in globalThis);
  for (const [name, {file, pixels, tolerance}] of Object.entries(files)) {
    // Chromium does not rotate WebP files.
    if (name === 'turned.webp') continue;
    const found = await tab.evaluate(text => globalThis.pixelsOf(text), file);
    const expected = Buffer.from(pixels, 'base64');
    assert.equal(found.length, expected.length, name);
    // A canvas multiplies colours by their opacity.
    const limit = Math.max(tolerance, name.startsWith('alpha') ? 3 : 0);
    const worst = found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
    assert.ok(worst <= limit, `${name}: off by ${worst}`);
  }
  await tab.close();
});

for (const [fixture, title] of [
  ['orientation', 'files with EXIF metadata have the same pixels in every form, turned as Chromium turns them'],
  ['profiles', 'files with a colour profile or a gamma have the numbers of the file in every form'],
]) {
  test(title, async () => {
    const files = JSON.parse(readFileSync(join(root, `test/fixtures/images/${fixture}.json`), 'utf8'));
    const tab = await browser.newPage();
    await tab.goto(`${server.address}/page.html`);
    await tab.waitForFunction(() => 'formsOfFile' in globalThis);
    for (const {name, file} of files) {
      const args = [file, name.startsWith('PNG') ? 'png' : 'jpeg'];
      const {blob, bytes, element, bitmap} = await tab.evaluate(args => globalThis.formsOfFile(...args), args);
      assert.deepEqual({name, bytes, element, bitmap}, {name, bytes: blob, element: blob, bitmap: blob});
    }
    await tab.close();
  });
}

test('elements that were turned already, or belong to another origin, are refused', async () => {
  const picture = 'test/fixtures/tiny_preset/pictures/blue_square.png';
  const tab = await browser.newPage();
  await tab.goto(`${server.address}/page.html`);
  await tab.waitForFunction(() => 'messageFor' in globalThis);
  const messageFor = (...args) => tab.evaluate(args => globalThis.messageFor(...args), args);
  const own = `${server.address}/${picture}`;
  assert.equal(await messageFor(own), 'pixels');
  assert.match(await messageFor(own, {imageOrientation: 'none'}), /^ValueError: Expected a file for imageOrientation/);
  const other = own.replace('127.0.0.1', 'localhost');
  assert.match(await messageFor(other), /^ValueError: Expected an image whose pixels this page may read/);
  await tab.close();
});

const threads = availableParallelism() > 1 ? '[2-8] threads' : '1 thread';
for (const [folder, details] of [
  ['/worker', /1 thread .*cannot be shared/],
  ['/isolated/worker', new RegExp(`WebAssembly with .*SIMD, ${threads}$`)],
]) {
  test(`in a Worker, ${folder}: the same text in pieces, while the page stays free`, async () => {
    const tab = await browser.newPage();
    const problems = [];
    tab.on('pageerror', error => problems.push(String(error)));
    tab.on('console', message => message.type() === 'error' && problems.push(message.text()));
    await tab.addInitScript(watchPage);
    await tab.goto(`${server.address}${folder}/page.html`);
    const done = text => document.querySelector('#answer').textContent === text && globalThis.backends;
    await tab.waitForFunction(done, expected, {timeout: 120_000}).catch(async error => {
      const text = await tab.textContent('#answer');
      throw new Error(`Expected "${expected}". Received: "${text}", and ${problems.join(' ')}.`, {cause: error});
    });
    const {waits, backends, pieces} = await tab.evaluate(() => ({
      waits: globalThis.waits,
      backends: globalThis.backends,
      pieces: document.querySelector('#answer').childNodes.length,
    }));
    assert.ok(pieces > 1, `Expected several pieces. Received: ${pieces}.`);
    assert.match(backends.find(({name}) => name === 'simd').details, details);
    // Nine of ten turns must come soon. A busy machine may delay the tenth.
    const usual = waits.sort((a, b) => a - b)[Math.floor(0.9 * waits.length)];
    assert.ok(waits.length > 20 && usual < 100, `Expected a free page. Received: ${waits.length} turns, ${usual} ms.`);
    assert.deepEqual(
      problems.filter(problem => !/favicon|404/.test(problem)),
      [],
    );
    await tab.close();
  });
}

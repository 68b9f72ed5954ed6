/**
 * A tab in the background gets no animation frames, and its timers fire once a second at most: generation and training
 * continue there, on every backend, and use neither. Needs Chromium at /usr/bin/chromium, or the path in CHROMIUM.
 */
import assert from 'node:assert/strict';
import {dirname, join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {serve} from './server.mjs';
import {launchTabs} from './tabs.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const QUESTION = 'What is the capital of France?';

const contents = `
// Before anything is loaded: counts the page's timers and frames.
const asked = {frames: 0, timers: 0};
const {requestAnimationFrame, setTimeout} = globalThis;
globalThis.requestAnimationFrame = work => {
  asked.frames++;
  return requestAnimationFrame(work);
};
globalThis.setTimeout = (...args) => {
  asked.timers++;
  return setTimeout(...args);
};
let shown = 0;
document.addEventListener('visibilitychange', () => {
  if (document.visibilityState === 'visible') shown++;
});
/** The timers and frames that are requested while work runs, and whether the page is hidden all the time. */
const inBackground = async work => {
  const before = {...asked, shown};
  const result = await work();
  const hidden = document.visibilityState === 'hidden' && shown === before.shown;
  return {...result, hidden, frames: asked.frames - before.frames, timers: asked.timers - before.timers};
};
const {Gemma3Backbone, Gemma3CausalLM, useBackend} = await import('tfjs-gemma3');
const tf = await import('@tensorflow/tfjs');
const optionsOf = backend => (backend === 'webgpu' ? {software: true} : {});
/** Waits until the browser slows down the timers of this page. → whether there are frames */
globalThis.slowedDown = async () => {
  const wait = time => new Promise(resolve => setTimeout(resolve, time));
  for (let begin = 0; performance.now() - begin < 500; ) {
    begin = performance.now();
    await wait(1);
  }
  const frames = await Promise.race([new Promise(requestAnimationFrame), wait(2000).then(() => null)]);
  return {state: document.visibilityState, frames: frames !== null};
};
globalThis.answer = async (backend, address, question) => {
  await useBackend(backend, optionsOf(backend));
  const lm = await Gemma3CausalLM.fromPreset(address, {dtype: 'float32'});
  const result = await inBackground(async () => {
    let text = '';
    for await (const piece of lm.stream(question, {maxLength: 24})) text += piece;
    return {text, sampled: await lm.generate(question, {maxLength: 24, sampler: 'beam'})};
  });
  lm.dispose();
  return {...result, isolated: crossOriginIsolated};
};
globalThis.train = async backend => {
  await useBackend(backend, optionsOf(backend));
  const args = {vocabularySize: 20, imageSize: null, numLayers: 1, numQueryHeads: 1, numKeyValueHeads: 1};
  const backbone = new Gemma3Backbone({...args, hiddenDim: 8, intermediateDim: 8, headDim: 8, dtype: 'float32'});
  const x = {token_ids: [[2, 5], [3, 4]], padding_mask: [[1, 1], [1, 1]]};
  const ends = [];
  const callbacks = {onBatchEnd: batch => void ends.push(batch), onYield: () => {}};
  const lm = new Gemma3CausalLM({backbone});
  lm.compile({optimizer: tf.train.sgd(0.1)});
  const own = await inBackground(async () => {
    const options = {sampleWeight: [[1, 1], [1, 1]], epochs: 4, batchSize: 1, callbacks, shuffle: false};
    const {history} = await lm.fit(x, [[5, 1], [4, 1]], options);
    return {ends: ends.splice(0), losses: history.loss};
  });
  const stock = await inBackground(async () => {
    backbone.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    await backbone.fit(x, tf.zeros([2, 2, 8]), {epochs: 2, batchSize: 1, yieldEvery: 'batch', callbacks});
    return {ends};
  });
  lm.dispose();
  return {own, stock};
};
`;

let server;
let browser;
let address;
before(async () => {
  const bundle = await build({
    stdin: {contents, resolveDir: root},
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'error',
    tsconfigRaw: '{}',
  });
  const html = '<!doctype html><script type="module" src="/page.js"></script>';
  const script = {text: bundle.outputFiles[0].text, headers: {'cross-origin-resource-policy': 'same-origin'}};
  server = await serve(root, {'/page.js': script, '/page.html': html, '/isolated/page.html': html});
  address = server.address.replace('127.0.0.1', 'localhost');
  const args = ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-quic'];
  browser = await launchTabs(executablePath, args);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/** A page that another tab of its window hides, and that the browser has slowed down. */
async function hiddenPage(path = '/page.html') {
  const page = await browser.open(`${address}${path}`);
  await page.defined('train');
  await browser.open('about:blank');
  assert.deepEqual(await page.call('slowedDown'), {state: 'hidden', frames: false});
  return page;
}

for (const [backend, path] of [
  ['webgpu', '/page.html'],
  ['simd', '/page.html'],
  ['simd', '/isolated/page.html'],
]) {
  const threads = path.includes('isolated');
  test(`text on ${backend}${threads ? ' with threads' : ''} in a hidden tab, without a frame or a timer`, async () => {
    const page = await hiddenPage(path);
    const {text, sampled, hidden, isolated, ...asked} = await page.call(
      ...['answer', backend, `${address}/presets/gemma3_tiny`, QUESTION],
    );
    assert.equal(text, ' The capital of France is Paris.');
    assert.ok(sampled.startsWith(QUESTION));
    assert.equal(isolated, threads);
    assert.deepEqual({hidden, ...asked}, {hidden: true, frames: 0, timers: 0});
  });
}

for (const backend of ['webgpu', 'simd']) {
  test(`training on ${backend} in a hidden tab, with callbacks, by this package and by tfjs`, async () => {
    const page = await hiddenPage();
    const {own, stock} = await page.call('train', backend);
    assert.deepEqual(own.ends, [0, 1, 0, 1, 0, 1, 0, 1]);
    assert.ok(own.losses.at(-1) < own.losses[0], `losses: ${own.losses}`);
    assert.deepEqual(stock.ends, [0, 1, 0, 1]);
    for (const {hidden, frames, timers} of [own, stock]) {
      assert.deepEqual({hidden, frames, timers}, {hidden: true, frames: 0, timers: 0});
    }
  });
}

/**
 * A tab in the background gets no animation frames, and its timers fire once a second at most: generation and training go
 * on there, on every backend. Needs Chromium at /usr/bin/chromium, or the path in CHROMIUM.
 */
import assert from 'node:assert/strict';
import {dirname, join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';
import {serve} from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const QUESTION = 'What is the capital of France?';

const contents = `
// Before anything is loaded: what a hidden page asks for, and what it gets.
globalThis.waits = {frames: 0, timers: 0};
globalThis.requestAnimationFrame = () => ++waits.frames;
const {setTimeout} = globalThis;
globalThis.setTimeout = (work, wait, ...args) => {
  waits.timers++;
  return setTimeout(work, Math.max(1000, wait ?? 0), ...args);
};
const {Gemma3Backbone, Gemma3CausalLM, useBackend} = await import('tfjs-gemma3');
const tf = await import('@tensorflow/tfjs');
globalThis.answer = async (backend, address, question) => {
  await useBackend(backend, backend === 'webgpu' ? {software: true} : {});
  const lm = await Gemma3CausalLM.fromPreset(address, {dtype: 'float32'});
  const before = {...waits};
  let text = '';
  for await (const piece of lm.stream(question, {maxLength: 24})) text += piece;
  const sampled = await lm.generate(question, {maxLength: 24, sampler: 'beam'});
  const ran = {frames: waits.frames - before.frames, timers: waits.timers - before.timers};
  lm.dispose();
  return {text, sampled, ran};
};
globalThis.train = async () => {
  await useBackend('simd');
  const args = {vocabularySize: 20, imageSize: null, numLayers: 1, numQueryHeads: 1, numKeyValueHeads: 1};
  const backbone = new Gemma3Backbone({...args, hiddenDim: 8, intermediateDim: 8, headDim: 8, dtype: 'float32'});
  const x = {token_ids: [[2, 5], [3, 4]], padding_mask: [[1, 1], [1, 1]]};
  const ends = [];
  const callbacks = {onBatchEnd: batch => void ends.push(batch), onYield: () => {}};
  const lm = new Gemma3CausalLM({backbone});
  lm.compile({optimizer: tf.train.sgd(0.1)});
  await lm.fit(x, [[5, 1], [4, 1]], {sampleWeight: [[1, 1], [1, 1]], epochs: 2, batchSize: 1, callbacks});
  // That of tfjs.
  backbone.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
  await backbone.fit(x, tf.zeros([2, 2, 8]), {epochs: 2, batchSize: 1, yieldEvery: 'batch', callbacks});
  return {ends, frames: waits.frames};
};
`;

let server;
let browser;
let page;
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
  server = await serve(root, {
    '/page.js': bundle.outputFiles[0].text,
    '/page.html': '<!doctype html><script type="module" src="page.js"></script>',
  });
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-quic'],
  });
  page = await browser.newPage();
  await page.goto(`${server.address.replace('127.0.0.1', 'localhost')}/page.html`);
  await page.waitForFunction(() => globalThis.train);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

for (const backend of ['webgpu', 'simd']) {
  test(`text on ${backend}, without waiting for a frame or a timer`, async () => {
    const address = `${server.address.replace('127.0.0.1', 'localhost')}/presets/gemma3_tiny`;
    const run = ([backend, preset, question]) => globalThis.answer(backend, preset, question);
    const {text, sampled, ran} = await page.evaluate(run, [backend, address, QUESTION]);
    assert.equal(text, ' The capital of France is Paris.');
    assert.ok(sampled.startsWith(QUESTION));
    assert.deepEqual(ran, {frames: 0, timers: 0});
  });
}

test('training with callbacks, by this package and by tfjs', async () => {
  const {ends, frames} = await page.evaluate(() => globalThis.train());
  assert.deepEqual(ends, [0, 1, 0, 1, 0, 1, 0, 1]);
  assert.equal(frames, 0);
});

/**
 * The backend `webgpu` of the built package in Chromium, on an adapter in software: the same text as in Node, in every
 * dtype. Needs Chromium at /usr/bin/chromium, or the path in CHROMIUM.
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
import {describeBackends, Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import * as tf from '@tensorflow/tfjs';
globalThis.chosen = async () => {
  const name = await useBackend();
  const refused = await useBackend('webgpu').catch(error => error.message);
  return {name, refused, backends: await describeBackends()};
};
globalThis.answer = async (address, question, dtype) => {
  await useBackend('webgpu', {software: true});
  const errors = [];
  tf.backend().device.addEventListener('uncapturederror', ({error}) => errors.push(error.message));
  const before = tf.memory().numTensors;
  const lm = await Gemma3CausalLM.fromPreset(address, {dtype});
  const text = await lm.generate(question, {maxLength: 24});
  const sampled = await lm.generate(question, {maxLength: 24, sampler: 'top_k', seed: 1, temperature: 0.01});
  lm.dispose();
  return {text, sampled, errors, left: tf.memory().numTensors - before};
};
/** A generation without an end, until it fails; and one on a new device. */
globalThis.lose = async (address, question) => {
  await useBackend('webgpu', {software: true});
  const lost = await Gemma3CausalLM.fromPreset(address, {dtype: 'float32'});
  let message = 'none';
  try {
    for (;;) {
      for await (const piece of lost.stream(question, {maxLength: 24})) globalThis.begun = true;
    }
  } catch (error) {
    ({message} = error);
  }
  const again = await lost.generate(question, {maxLength: 24}).catch(error => error.message);
  lost.dispose();
  await useBackend('webgpu', {software: true});
  const lm = await Gemma3CausalLM.fromPreset(address, {dtype: 'float32'});
  const text = await lm.generate(question, {maxLength: 24});
  lm.dispose();
  return {message, again, text};
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
  // WebGPU needs a secure context, which localhost is.
  await page.goto(`${server.address.replace('127.0.0.1', 'localhost')}/page.html`);
  await page.waitForFunction(() => globalThis.answer);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test('"auto" does not take an adapter in software, and its name alone is refused', async () => {
  const {name, refused, backends} = await page.evaluate(() => globalThis.chosen());
  assert.equal(name, 'simd');
  assert.match(refused, /computes on the CPU. Use the backend "simd"/);
  const [{available, details}] = backends;
  assert.ok(available, details);
  assert.match(details, /Buffers of \d+ MiB/);
});

for (const dtype of ['float32', 'bfloat16', 'int4']) {
  test(`generates the text of KerasHub, ${dtype}`, async () => {
    const address = `${server.address.replace('127.0.0.1', 'localhost')}/presets/gemma3_tiny`;
    const run = ([preset, question, type]) => globalThis.answer(preset, question, type);
    const {text, sampled, errors, left} = await page.evaluate(run, [address, QUESTION, dtype]);
    assert.deepEqual(errors, []);
    assert.equal(text, `${QUESTION} The capital of France is Paris.`);
    assert.equal(sampled, text);
    assert.equal(left, 0);
  });
}

test('a GPU process that crashes: what happened, what to do, and a new device', async () => {
  const address = `${server.address.replace('127.0.0.1', 'localhost')}/presets/gemma3_tiny`;
  const losing = page.evaluate(([preset, question]) => globalThis.lose(preset, question), [address, QUESTION]);
  await page.waitForFunction(() => globalThis.begun);
  const session = await browser.newBrowserCDPSession();
  await session.send('Browser.crashGpuProcess');
  const {message, again, text} = await losing;
  assert.match(message, /GPU device was lost: .*\. Call await useBackend\('webgpu'\), then load the model again/);
  assert.equal(again, message);
  assert.equal(text, `${QUESTION} The capital of France is Paris.`);
});

/** The engine's memories in Chromium: a thread must accept a new one while the page blocks and receives no messages. */
import assert from 'node:assert/strict';
import {dirname, join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';
import {serve} from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

const page = `
import {FLOAT32} from './src/backends/simd/engine/command';
import {gather} from './src/backends/simd/kernels/embedding';
import {SimdEngine} from './src/backends/simd/engine/simd_engine';
globalThis.sums = async () => {
  const engine = await SimdEngine.create({threads: 3, maximumPages: 200});
  const sums = [];
  for (let round = 0; round < 8; round++) {
    if (round < 4) engine.addBank();
    const bank = round % engine.banks.length;
    const {memory} = engine.banks[bank];
    memory.grow(1);
    const at = engine.staticBytes;
    new Int32Array(memory.buffer, at, 64).forEach((_, i, ids) => (ids[i] = 63 - i));
    new Float32Array(memory.buffer, at + 256, 64).fill(round + 1);
    engine.run(...gather({table: at + 256, type: FLOAT32, columns: 1, ids: at, count: 64, target: at + 512}), bank);
    sums.push(new Float32Array(memory.buffer, at + 512, 64).reduce((a, b) => a + b));
  }
  const {threads, banks} = engine;
  await engine.dispose();
  return {threads, banks: banks.length, sums};
};
`;

let server;
let browser;
before(async () => {
  const stdin = {contents: page, resolveDir: root, loader: 'ts'};
  const bundle = await build({
    stdin,
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'error',
  });
  server = await serve(root, {
    '/isolated/page.js': bundle.outputFiles[0].text,
    '/isolated/page.html': '<!doctype html><script type="module" src="/isolated/page.js"></script>',
  });
  browser = await chromium.launch({executablePath, args: ['--no-sandbox', '--disable-gpu', '--disable-quic']});
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test('three threads work in five memories', async () => {
  const tab = await browser.newPage();
  await tab.goto(`${server.address}/isolated/page.html`);
  await tab.waitForFunction(() => 'sums' in globalThis);
  const {threads, banks, sums} = await tab.evaluate(() => globalThis.sums());
  assert.deepEqual({threads, banks}, {threads: 3, banks: 5});
  assert.deepEqual(
    sums,
    [1, 2, 3, 4, 5, 6, 7, 8].map(value => 64 * value),
  );
});

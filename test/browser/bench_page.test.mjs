/** The page of bench/browser in Chromium, on an adapter in software, with this package alone. */
import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {chromium} from 'playwright-core';
import {pages} from '../../bench/browser/serve.mjs';
import {serve} from './server.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

let server;
let browser;
before(async () => {
  server = await serve(root, await pages());
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-quic'],
  });
});
after(async () => {
  await browser?.close();
  await server?.close();
});

test('measures this package, and says which sides did not run', async () => {
  const page = await browser.newPage();
  const parameters = 'preset=/presets/gemma3_tiny&dtype=int4&words=2&tokens=3&rounds=1&software=1&sides=ours,web-llm';
  await page.goto(`${server.address.replace('127.0.0.1', 'localhost')}/?${parameters}`);
  await page.getByText('Ready.').waitFor();
  await page.getByRole('button', {name: 'Start'}).click();
  await page.waitForFunction(() => globalThis.result, undefined, {timeout: 240_000});
  const {sides, failed} = await page.evaluate(() => globalThis.result);
  assert.deepEqual(
    failed.map(({name}) => name),
    ['web-llm'],
  );
  const [{name, speed, first, facts}] = sides;
  assert.equal(name, 'tfjs-gemma3');
  assert.ok(speed > 0 && first > 0);
  assert.ok(facts.copyBytesPerSecond > 0 && facts.shareOfCopy > 0);
  assert.equal(facts.bytesReadPerToken, 4);
  // Seven for each of six blocks; embedding, norm, head, two for the choice, one that notes it.
  assert.equal(facts.dispatchesPerToken, 7 * 6 + 6);
  await page.getByText('of a plain copy').waitFor();
});

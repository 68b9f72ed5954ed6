/** Where the page in `demo` runs: WebGPU absent, in software, lost; a Worker that is lost; a host without headers. */
import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {after, before, test} from 'node:test';
import {serve} from '../browser/server.mjs';
import {ANSWER, ask, built, kept, newPerson, QUESTION, ready, startBrowser, startSite} from './site.mjs';

let site;
before(async () => (site = await startSite()));
after(() => site?.close());

test('WebGPU absent: on the CPU, and says why; a lost Worker, and on', async () => {
  const browser = await startBrowser();
  try {
    const person = await newPerson(browser);
    const page = await person.open(`${site.address}/#model`);
    assert.equal(await ready(page), 'simd');
    assert.equal(
      await page.locator('#where-reason').innerText(),
      'It runs on the CPU with WebAssembly, because there is no WebGPU here.',
    );
    assert.match(await page.locator('#backends li').first().innerText(), /webgpu\s+Not available\./);
    // As a browser does when memory runs out, without a notification.
    const end = async () => {
      for (const worker of page.workers()) await worker.evaluate('self.close()').catch(() => {});
    };
    await end();
    const alert = page.getByRole('alert').filter({hasText: 'Memory ran out.'});
    await alert.waitFor();
    await alert.getByRole('button', {name: 'Load as int4'}).click();
    await ready(page);
    assert.match(await page.locator('#model-now').innerText(), /stored as int4/);
    await page.getByRole('link', {name: 'Chat'}).click();
    assert.equal(await ask(page, QUESTION), ANSWER);

    // In the middle of an answer.
    await page.getByRole('textbox', {name: 'Message'}).fill('What is the capital of Peru?');
    await page.evaluate(() => {
      const {postMessage} = Worker.prototype;
      Worker.prototype.postMessage = function (message, ...rest) {
        if (message.name === 'streamAnswer') this.terminate();
        return postMessage.call(this, message, ...rest);
      };
    });
    await page.keyboard.press('Enter');
    await alert.getByRole('button', {name: 'Start again'}).click();
    await ready(page);
    assert.equal(await page.getByRole('textbox', {name: 'Message'}).inputValue(), 'What is the capital of Peru?');
    assert.deepEqual(person.problems, []);
  } finally {
    await browser.close();
  }
});

test('WebGPU in software: not taken unless it is chosen; lost, and on with the CPU', async () => {
  const browser = await startBrowser(['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader']);
  try {
    const person = await newPerson(browser);
    // WebGPU needs a secure context, which localhost is.
    const page = await person.open(`${site.address}/#model`);
    assert.equal(await ready(page), 'simd');
    assert.match(await page.locator('#where-reason').innerText(), /the only WebGPU adapter computes in software/);
    await page.getByLabel('Backend').selectOption('webgpu');
    await page.waitForFunction(() => document.body.dataset.state === 'busy');
    assert.equal(await ready(page), 'webgpu');
    await page.getByRole('link', {name: 'Chat'}).click();
    assert.equal(await ask(page, QUESTION), ANSWER);
    const session = await browser.newBrowserCDPSession();
    const {processInfo} = await session.send('SystemInfo.getProcessInfo');
    for (const {type, id} of processInfo) if (type === 'GPU') process.kill(id, 'SIGKILL');
    await page.getByRole('textbox', {name: 'Message'}).fill('What is the capital of Peru?');
    await page.getByRole('button', {name: 'Send'}).click();
    const alert = page.getByRole('alert').filter({hasText: 'The graphics device was lost.'});
    await alert.waitFor({timeout: 30_000});
    assert.equal(await page.getByRole('textbox', {name: 'Message'}).inputValue(), 'What is the capital of Peru?');
    await alert.getByRole('button', {name: 'Continue on the CPU'}).click();
    await page.waitForFunction(() => document.querySelector('#where-text').textContent.endsWith('simd'));
    await ready(page);
    await page.getByRole('button', {name: 'Send'}).click();
    await page.locator('.assistant .body').getByText('The capital of Peru is Lima.').waitFor();
  } finally {
    await browser.close();
  }
});

test('a host without headers: the service worker isolates the page; later without a network', async () => {
  const plain = await serve(built, {'/': readFileSync(join(built, 'index.html'), 'utf8')});
  const browser = await startBrowser();
  try {
    const person = await newPerson(browser);
    const page = await person.open(`${plain.address}/`);
    await page.waitForFunction(() => globalThis.crossOriginIsolated, undefined, {timeout: 30_000});
    assert.equal(await ready(page), 'simd');
    await page.getByRole('link', {name: 'Model'}).click();
    assert.doesNotMatch(await page.locator('#where-reason').innerText(), /one thread/);
    await kept(page);
    await person.context.setOffline(true);
    await page.reload();
    assert.equal(await ready(page), 'simd');
    assert.equal(await page.evaluate('crossOriginIsolated'), true);
    assert.deepEqual(person.problems, []);
  } finally {
    await browser.close();
    await plain.close();
  }
});

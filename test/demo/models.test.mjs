/**
 * Models on the page in `demo`: their requirements, downloads that are slow, broken, paused and resumed, and no
 * network.
 */
import assert from 'node:assert/strict';
import {cpSync, mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, afterEach, before, test} from 'node:test';
import {ANSWER, ask, kept, newPerson, QUESTION, ready, root, startBrowser, startHost, startSite} from './site.mjs';

let site;
let host;
let browser;
let person;
let page;
before(async () => {
  [site, host, browser] = await Promise.all([startSite(), startHost(), startBrowser()]);
  person = await newPerson(browser);
  page = await person.open(`${site.address}/#model`);
  await ready(page);
});
after(async () => {
  await browser?.close();
  await site?.close();
  host?.close();
});
afterEach(() => Object.assign(host, {pace: 0, fault: () => undefined}));

const look = async (text, from = page) => {
  await from.getByRole('combobox', {name: /Name, address/}).fill(text);
  await from.getByRole('button', {name: 'Look'}).click();
};
const stored = (from = page) => from.locator('#stored');
const note = (pattern, from = page) => from.locator('#transfer-note', {hasText: pattern}).waitFor({timeout: 60_000});

test('what a model needs, and what is no model', async () => {
  await page.getByText('None yet.').waitFor();
  await look('gemma3 tiny');
  await page.getByText('is neither a name nor an address').waitFor();
  await look(`${host.address}/nowhere`);
  await page.locator('#choose-problem', {hasText: /Expected/}).waitFor();
  await look(`${host.address}/one/tiny.gguf`);
  await page.locator('#load-facts', {hasText: 'GGUF'}).waitFor();
  const choices = await page.locator('#load-dtypes label').allInnerTexts();
  assert.equal(choices.length, 4);
  for (const choice of choices) assert.match(choice, /\d [kM]B, fits here$/);
});

test('a slow download: progress by file, pause, and on after a reload', async () => {
  host.pace = 60;
  await look(`${host.address}/tiny`);
  await page.locator('#load-facts', {hasText: '1.3 million parameters'}).waitFor();
  await page.getByRole('button', {name: 'Load', exact: true}).click();
  await page.locator('#transfer-files li', {hasText: /model\.weights\.h5.*\d+(\.\d+)? .B of/s}).waitFor();
  await note(/^\d.* of 3.* MB \(\d+ %\), .*\/s, .* left$/);
  await page.getByRole('button', {name: 'Pause'}).click();
  await note(/^Paused\./);
  await page.reload();
  await ready(page);
  const item = stored().getByRole('listitem').filter({hasText: 'unfinished'});
  await item.waitFor();
  host.pace = 0;
  const before = host.asked.length;
  await item.getByRole('button', {name: 'Resume tiny'}).click();
  assert.equal(await ready(page, 'tiny'), 'simd');
  assert.ok(host.asked.length > before);
  await stored()
    .getByRole('listitem')
    .filter({hasText: /^tiny\d/})
    .waitFor();
  await page.getByRole('link', {name: 'Chat'}).click();
  assert.equal(await ask(page, QUESTION), ANSWER);
});

test('without a network: the page, its small model and the one that is kept', async () => {
  await kept(page);
  await person.context.setOffline(true);
  try {
    const asked = host.asked.length;
    await page.reload();
    await ready(page);
    assert.equal(await page.evaluate('crossOriginIsolated'), true);
    await page.getByRole('button', {name: 'New conversation'}).click();
    assert.equal(await ask(page, QUESTION), ANSWER);
    await page.getByRole('link', {name: 'Model'}).click();
    await stored().getByRole('button', {name: 'Use tiny'}).click();
    await page.getByRole('radio', {name: /int8/}).check();
    await page.getByRole('button', {name: 'Load', exact: true}).click();
    await ready(page, 'tiny');
    assert.match(await page.locator('#model-now').innerText(), /stored as int8/);
    assert.equal(host.asked.length, asked);
  } finally {
    await person.context.setOffline(false);
  }
  await stored().getByRole('button', {name: 'Delete tiny'}).click();
  await page.getByText('None yet.').waitFor();
});

test('a broken download is tried again, then it says so, and goes on', async () => {
  // Connections are cut after 64 kB, three times.
  let cuts = 0;
  host.fault = (_, path) => (path.endsWith('.h5') && cuts++ < 3 ? 'cut' : undefined);
  await look(`${host.address}/tiny`);
  await page.getByRole('button', {name: 'Load', exact: true}).click();
  await ready(page, 'tiny');
  await stored().getByRole('button', {name: 'Delete tiny'}).click();
  await page.getByText('None yet.').waitFor();

  let isBroken = false;
  await look(`${host.address}/tiny`);
  await page.locator('#load-form').waitFor();
  host.fault = (_, path) => (isBroken && path.endsWith('.h5') ? 401 : undefined);
  host.pace = 60;
  await page.getByRole('button', {name: 'Load', exact: true}).click();
  await page.locator('#transfer-files li', {hasText: /model\.weights\.h5/}).waitFor();
  isBroken = true;
  await page.getByRole('button', {name: 'Pause'}).click();
  await note(/^Paused\./);
  await page.getByRole('button', {name: 'Resume', exact: true}).click();
  await note(/What has arrived is kept\.$/);
  isBroken = false;
  host.pace = 0;
  await page.getByRole('button', {name: 'Resume', exact: true}).click();
  // The model in use is the same one, so the page is ready all the time.
  await page.locator('#transfer').waitFor({state: 'hidden'});
  await stored().getByRole('button', {name: 'Delete tiny'}).click();
  await page.getByText('None yet.').waitFor();
});

test('a download that this tab continues is deleted', async () => {
  host.pace = 60;
  await look(`${host.address}/tiny`);
  await page.getByRole('button', {name: 'Load', exact: true}).click();
  await note(/ left$/);
  await page.getByRole('button', {name: 'Pause'}).click();
  await stored().getByRole('button', {name: 'Resume tiny'}).click();
  await note(/ left$/);
  await stored().getByRole('button', {name: 'Delete tiny'}).click();
  await page.locator('#transfer').waitFor({state: 'hidden'});
  await page.getByText('None yet.').waitFor();
});

test('cancel leaves nothing', async () => {
  host.pace = 60;
  await look(`${host.address}/tiny`);
  await page.getByRole('button', {name: 'Load', exact: true}).click();
  await page.locator('#transfer-files li', {hasText: /model\.weights\.h5/}).waitFor();
  await page.getByRole('button', {name: 'Cancel'}).click();
  await page.locator('#transfer').waitFor({state: 'hidden'});
  await page.getByText('None yet.').waitFor();
});

test('no space: it says how much is needed', async () => {
  const session = await person.context.newCDPSession(page);
  const {usage} = await page.evaluate(() => navigator.storage.estimate());
  await session.send('Storage.overrideQuotaForOrigin', {origin: site.address, quotaSize: usage});
  await look(`${host.address}/tiny`);
  await page.getByRole('button', {name: 'Load', exact: true}).click();
  await note(/(of free|no more) space.*What has arrived is kept\.$/s);
  await session.send('Storage.overrideQuotaForOrigin', {origin: site.address});
  await page.getByRole('button', {name: 'Resume', exact: true}).click();
  await ready(page, 'tiny');
});

test('two tabs: one downloads, the other waits, and both have it', async () => {
  await stored().getByRole('button', {name: 'Delete tiny'}).click();
  await page.getByText('None yet.').waitFor();
  const other = await person.open(`${site.address}/#model`);
  await ready(other);
  const loadIn = tab => tab.getByRole('button', {name: 'Load', exact: true});
  for (const tab of [page, other]) {
    await look(`${host.address}/tiny`, tab);
    await loadIn(tab).waitFor();
  }
  host.pace = 400;
  await loadIn(page).click();
  await note(/ left$/);
  await loadIn(other).click();
  await note('Another tab is downloading this model.', other);
  // A third tab may not take it away.
  const third = await person.open(`${site.address}/#model`);
  await stored(third).getByRole('button', {name: 'Delete tiny'}).click();
  await third.locator('#stored-problem', {hasText: 'whose download is running'}).waitFor();
  await stored(third).getByText('unfinished').waitFor();
  await third.close();
  host.pace = 0;
  await Promise.all([ready(page, 'tiny'), ready(other, 'tiny')]);
  await stored(other).getByRole('button', {name: 'Delete tiny'}).click();
  await page.getByText('None yet.').waitFor();
  await other.close();
});

test('files of this machine: a folder, and a file; nothing is sent', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'gemma3-demo-'));
  try {
    cpSync(join(root, 'presets/gemma3_tiny'), join(folder, 'mine'), {recursive: true});
    await page.setInputFiles('#choose-folder', join(folder, 'mine'));
    await page.locator('#load-title', {hasText: 'mine'}).waitFor({state: 'attached'});
    assert.equal(await page.locator('#load-keep').isVisible(), false);
    await page.getByRole('button', {name: 'Load', exact: true}).click();
    await ready(page, 'mine');
    await page.setInputFiles('#choose-files', join(root, 'test/fixtures/gguf/tiny.gguf'));
    await page.locator('#load-title', {hasText: 'tiny.gguf'}).waitFor({state: 'attached'});
    await page.getByRole('button', {name: 'Load', exact: true}).click();
    await ready(page, 'tiny.gguf');
  } finally {
    rmSync(folder, {recursive: true});
  }
});

test('a token goes to the host that was named, and is not kept', async () => {
  await page.getByLabel('Access token').fill('secret-1');
  const asked = host.asked.length;
  await look(`${host.address}/tiny`);
  await page.locator('#load-form').waitFor();
  const since = host.asked.slice(asked);
  assert.ok(since.length > 0 && since.every(({authorization}) => authorization === 'Bearer secret-1'));
  const kept = await page.evaluate(() => JSON.stringify([{...localStorage}, {...sessionStorage}]));
  assert.doesNotMatch(kept, /secret/);
});

test('a Hugging Face id asks only that host', async () => {
  const asked = [];
  await person.context.route('https://huggingface.co/**', route => {
    asked.push(route.request().url());
    return route.fulfill({status: 404, headers: {'access-control-allow-origin': '*'}});
  });
  await page.getByLabel('Access token').fill('');
  await look('google/gemma-3-270m-it');
  await page.locator('#choose-problem', {hasText: /hf:\/\/google|gemma-3-270m-it/}).waitFor();
  assert.ok(asked.length > 0);
});

test('nothing went wrong, and only hosts that were named were asked', () => {
  assert.deepEqual(person.problems, []);
  const named = [site.address, host.address, 'https://huggingface.co'].map(address => new URL(address).host);
  assert.deepEqual(
    [...person.hosts].filter(one => !named.includes(one)),
    [],
  );
});

/** The page in `demo` in Firefox: its main functions, from the first paint to working offline. */
import assert from 'node:assert/strict';
import {existsSync, readdirSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import {serve} from '../browser/server.mjs';
import {ANSWER, built, picture, QUESTION, startHost, startSite} from '../demo/site.mjs';
import {after, before, newPerson, test, until} from './firefox.mjs';

let site;
let host;
let person;
let page;
before(async () => {
  [site, host, person] = await Promise.all([startSite(), startHost(), newPerson()]);
  page = await person.open(site.address);
});
after(async () => {
  await person?.close();
  await site?.close();
  host?.close();
});

const text = (selector, from = page) => from.$eval(selector, node => node.innerText.trim());
const click = (selector, from = page) => from.locator(selector).click();
/** Clicks the button of a name, which must be the only one that can be seen. */
const press = (name, from = page) =>
  until(
    from,
    wanted => {
      const buttons = [...document.querySelectorAll('button')].filter(node => node.checkVisibility() && !node.disabled);
      const found = buttons.filter(node => (node.getAttribute('aria-label') ?? node.textContent).trim() === wanted);
      if (found.length !== 1) return false;
      found[0].click();
      return true;
    },
    name,
  );
/** Waits until an element that can be seen has a text. → its text */
const says = async (selector, pattern, from = page) => {
  const matches = (where, source) => {
    const found = [...document.querySelectorAll(where)].find(
      node => node.checkVisibility() && new RegExp(source, 's').test(node.innerText.trim()),
    );
    return found?.innerText.trim();
  };
  return until(from, matches, selector, pattern.source);
};
const isReady = (label = 'gemma3_tiny', from = page) =>
  until(
    from,
    name => {
      const {textContent} = document.querySelector('#where-text');
      return document.body.dataset.state === 'ready' && textContent.startsWith(name) && textContent.split(' · ')[1];
    },
    label,
  );
/** Types into a field. Keys that are sent to a tab behind another one can get lost, so the field is looked at, too. */
async function fill(selector, value, from = page) {
  await from.bringToFront();
  await from.locator(selector).fill(value);
  await until(from, (where, wanted) => document.querySelector(where).value === wanted, selector, value);
}

/** Asks something in the chat. → the answer */
async function ask(question, from = page) {
  const messages = (await from.$$('.message')).length + 2;
  await fill('#question', question, from);
  await from.focus('#question');
  await from.keyboard.press('Enter');
  return answer(messages, from);
}
async function answer(messages, from = page) {
  await until(
    from,
    count =>
      document.querySelectorAll('.message').length === count &&
      !document.querySelector('[aria-busy=true]') &&
      !document.querySelector('#send').hidden,
    messages,
  );
  return from.$$eval('.message.assistant .body', all => all.at(-1).innerText.trim());
}
const upload = async (selector, ...paths) => (await page.$(selector)).uploadFile(...paths);
const section = name => page.evaluate(hash => void (location.hash = hash), name);

test('the small model is there at once, in a Worker with threads, and it says why there', async () => {
  assert.equal(await isReady(), 'simd');
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  assert.equal(await page.$eval('#where-reason', node => /there is no WebGPU here\.$/.test(node.textContent)), true);
  assert.match(await page.$eval('#backends', node => node.textContent), /SIMD, \d threads?/);
});

test('chat: answers, an edit, a stop, and what is kept after a reload', async () => {
  assert.equal(await ask(QUESTION), ANSWER);
  assert.match(await text('#numbers'), /^\d+ of \d+ tokens used · [\d.]+ .B of memory$/);
  await press('Edit');
  await fill('.edit textarea', 'What is the capital of Peru?');
  await press('Send again');
  await says('.user .body', /Peru/);
  assert.equal(await answer(2), 'The capital of Peru is Lima.');

  await press('New conversation');
  await page.evaluate(() => {
    const log = document.querySelector('#log');
    new MutationObserver((_, observer) => {
      const body = log.querySelector('[aria-busy=true] .body');
      if (!body || /^…?$/.test(body.textContent.trim())) return;
      observer.disconnect();
      document.querySelector('#stop').click();
    }).observe(log, {childList: true, subtree: true});
  });
  await page.select('[name=sampler]', 'random');
  await fill('[name=temperature]', '5');
  await fill('[name=seed]', '3');
  await fill('[name=maxNewTokens]', '2000');
  await fill('#question', 'Tell me all');
  await click('#send');
  const stopped = await answer(2);
  assert.ok(stopped.length > 0);
  assert.match(await text('.assistant footer'), /stopped · gemma3_tiny/);
  await page.select('[name=sampler]', 'greedy');
  await page.reload();
  await isReady();
  assert.equal(await answer(2), stopped);
  assert.equal((await page.$$('#conversations li')).length, 2);
});

test('another tab follows', async () => {
  await press('New conversation');
  const other = await person.open(site.address);
  await isReady('gemma3_tiny', other);
  await press('New conversation', other);
  assert.equal(await ask(QUESTION, other), ANSWER);
  await says('#conversations', /capital of France/);
  await other.close();
  await page.bringToFront();
});

test('pictures: a file, dropped, from the camera, as the model sees them', async () => {
  await upload('#picture-files', picture('wide_pink_diamond'));
  const isShown = () =>
    document.querySelector('#attachments canvas')?.getContext('2d').getImageData(32, 32, 1, 1).data[0] > 200;
  await until(page, isShown);
  await press('Remove wide_pink_diamond.png');
  // Firefox gives no files to a paste that a script makes up.
  const bytes = readFileSync(picture('blue_square')).toString('base64');
  await page.evaluate(base64 => {
    const blob = new Blob([Uint8Array.from(atob(base64), sign => sign.charCodeAt(0))], {type: 'image/png'});
    const data = new DataTransfer();
    data.items.add(new File([blob], 'dropped.png', {type: 'image/png'}));
    const options = {bubbles: true, cancelable: true, dataTransfer: data};
    document.querySelector('#question').dispatchEvent(new DragEvent('drop', options));
  }, bytes);
  assert.equal(await ask('What is in this image?'), 'A blue square.');
  await press('New conversation');
  await click('#camera');
  await press('Take picture');
  await until(page, () => document.querySelector('#attachments canvas') !== null);
  assert.ok((await ask('What is in this image?')).length > 0);
  await press('New conversation');
});

test('tune: paused, tried meanwhile, done; the adapter is downloaded and loaded after a reload', async () => {
  await section('tune');
  await press('Sample task');
  await says('#preview-note', /^24 rows,/);
  await press('Start');
  await says('#tune-progress', /^Step \d+ of 60, loss [\d.]+, .* left\.$/);
  await press('Pause');
  await says('#tune-progress', /^Paused\./);
  await press('Resume');
  await says('#tune-progress', /^Done in /);
  // The text arrives piece by piece.
  const tuned = await says('#try-after', /Ask me more\.$/);
  assert.equal(await text('#try-before'), 'The capital of Peru is Lima.');
  await press('Download .lora.h5');
  const path = join(person.folder, 'gemma3_tiny-tuned.lora.h5');
  const isThere = () => existsSync(path) && !readdirSync(person.folder).some(name => name.endsWith('.part'));
  while (!isThere()) await new Promise(resolve => setTimeout(resolve, 50));
  await page.reload();
  await isReady();
  await upload('#load-adapter', path);
  await says('#adapter-note', /is loaded\./);
  await press('Ask both');
  assert.equal(await says('#try-after', /more\.$/), tuned);
});

test('a download is paused, goes on after a reload, and is used without a network', async () => {
  await section('model');
  host.pace = 60;
  await fill('#choose-text', `${host.address}/tiny`);
  await press('Look');
  await says('#load-facts', /1\.3 million parameters/);
  assert.match(await text('#load-dtypes'), /does not report how much there is/);
  await press('Load');
  await says('#transfer-note', /^\d.* of 3.* MB \(\d+ %\), .*\/s, .* left$/);
  await press('Pause');
  await says('#transfer-note', /^Paused\./);
  await page.reload();
  await isReady();
  await says('#stored', /unfinished/);
  host.pace = 0;
  await press('Resume tiny');
  assert.equal(await isReady('tiny'), 'simd');

  await until(page, async () => {
    const script = await (await fetch(new URL('service_worker.js', document.baseURI))).text();
    const files = JSON.parse(/FILES=(\[.*?\]);/.exec(script)[1]);
    const [name] = (await caches.keys()).filter(key => key.startsWith('gemma3-demo-'));
    return name && (await (await caches.open(name)).keys()).length === files.length;
  });
  person.network.isDown = true;
  const asked = host.asked.length;
  await page.reload();
  await isReady();
  assert.equal(await page.evaluate(() => crossOriginIsolated), true);
  await press('Use tiny');
  await says('#load-facts', /1\.3 million/);
  await press('Load');
  await isReady('tiny');
  await section('chat');
  await press('New conversation');
  assert.equal(await ask(QUESTION), ANSWER);
  assert.equal(host.asked.length, asked);
  person.network.isDown = false;
});

test('two tabs: one downloads, the other waits, and both have it', async () => {
  await section('model');
  await press('Delete tiny');
  await says('#stored', /None yet/);
  const other = await person.open(`${site.address}/#model`);
  await isReady('gemma3_tiny', other);
  for (const tab of [page, other]) {
    await fill('#choose-text', `${host.address}/tiny`, tab);
    await press('Look', tab);
    await says('#load-facts', /1\.3 million/, tab);
  }
  host.pace = 200;
  await press('Load');
  await says('#transfer-note', / left$/);
  await press('Load', other);
  await says('#transfer-note', /^Another tab is downloading this model/, other);
  host.pace = 0;
  await Promise.all([isReady('tiny'), isReady('tiny', other)]);
  await other.close();
  await page.bringToFront();
});

test('320 pixels: nothing needs to be scrolled sideways', async () => {
  await page.setViewport({width: 320, height: 640});
  for (const name of ['chat', 'tune', 'model']) {
    await section(name);
    const [all, shown] = await page.evaluate(() => {
      const {scrollWidth, clientWidth} = document.documentElement;
      return [scrollWidth, clientWidth];
    });
    assert.ok(all <= shown, `${name} is ${all} pixels wide of ${shown}`);
  }
});

test('nothing went wrong, and the page asked no host that was not named', () => {
  assert.deepEqual(person.problems, []);
  const named = [site.address, host.address].map(address => new URL(address).host);
  // Firefox itself asks its makers.
  const others = [...person.network.hosts].filter(one => !/(^|\.)mozilla\.(com|net|org)$|firefox\.com$/.test(one));
  assert.deepEqual(others.sort(), named.sort());
});

test('a host without headers: the service worker isolates the page', async () => {
  const plain = await serve(built, {'/': readFileSync(join(built, 'index.html'), 'utf8')});
  const visitor = await newPerson();
  try {
    const tab = await visitor.open(`${plain.address}/`);
    await until(tab, () => crossOriginIsolated);
    assert.equal(await isReady('gemma3_tiny', tab), 'simd');
    assert.match(await tab.$eval('#backends', node => node.textContent), /SIMD, \d threads?/);
    assert.deepEqual(visitor.problems, []);
  } finally {
    await visitor.close();
    await plain.close();
  }
});

test('a browser that keeps nothing: the page works, and says what is not kept', async () => {
  const visitor = await newPerson({'network.cookie.cookieBehavior': 2});
  try {
    const tab = await visitor.open(site.address);
    await isReady('gemma3_tiny', tab);
    await says('#numbers', /^Conversations cannot be saved here/, tab);
    assert.equal(await ask(QUESTION, tab), ANSWER);
    await says('#numbers', /^The conversation was not saved/, tab);
    await press('New conversation', tab);
    assert.deepEqual(
      visitor.problems.filter(problem => !/register\/update a ServiceWorker/.test(problem)),
      [],
    );
  } finally {
    await visitor.close();
  }
});

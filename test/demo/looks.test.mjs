/**
 * How the page in `demo` looks, and for whom: axe without violations, keyboard, 320 pixels, light and dark, and the
 * pictures of README.md. UPDATE_SCREENSHOTS=1 writes them.
 */
import assert from 'node:assert/strict';
import {existsSync, readFileSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {join} from 'node:path';
import {after, before, test} from 'node:test';
import {ask, newPerson, picture, ready, root, startBrowser, startSite} from './site.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

let site;
let browser;
before(async () => ([site, browser] = await Promise.all([startSite(), startBrowser()])));
after(async () => {
  await browser?.close();
  await site?.close();
});

/** The pictures in docs, and how they come about. */
const SCREENS = {
  light: {viewport: {width: 1280, height: 800}, colorScheme: 'light'},
  dark: {viewport: {width: 1280, height: 800}, colorScheme: 'dark'},
  phone: {viewport: {width: 390, height: 844}, colorScheme: 'light', isMobile: true},
};

/** Mean difference of two pictures in [0, 1], from far away: fonts differ between machines. */
const difference = (page, one, other) =>
  page.evaluate(
    async pictures => {
      const [a, b] = await Promise.all(
        pictures.map(async base64 => {
          const bytes = Uint8Array.from(atob(base64), sign => sign.charCodeAt(0));
          const bitmap = await createImageBitmap(new Blob([bytes], {type: 'image/png'}));
          const canvas = new OffscreenCanvas(32, 32);
          canvas.getContext('2d').drawImage(bitmap, 0, 0, 32, 32);
          return canvas.getContext('2d').getImageData(0, 0, 32, 32).data;
        }),
      );
      return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]), 0) / a.length / 255;
    },
    [one.toString('base64'), other.toString('base64')],
  );

/** What axe finds wrong. It is put in through the debugger, as the policy of the page lets in no other scripts. */
async function violations(page) {
  const session = await page.context().newCDPSession(page);
  await session.send('Runtime.evaluate', {expression: axe});
  const {result} = await session.send('Runtime.evaluate', {
    expression: `axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
      JSON.stringify(violations.map(({id, nodes}) => [id, ...nodes.map(({html, failureSummary}) => html.slice(0, 200) + failureSummary)])))`,
    awaitPromise: true,
    returnByValue: true,
  });
  await session.detach();
  return JSON.parse(result.value);
}

/** The animation of an answer that is waited for. */
const motion = () => {
  const waiting = document.createElement('p');
  waiting.className = 'waiting';
  document.body.append(waiting);
  const {animationName} = getComputedStyle(waiting);
  waiting.remove();
  return animationName;
};

for (const [name, settings] of Object.entries(SCREENS)) {
  test(`${name}: no violations in any section, and the picture in docs is like it`, async () => {
    const person = await newPerson(browser, {...settings, reducedMotion: 'reduce'});
    const page = await person.open(site.address);
    await ready(page);
    assert.deepEqual(await violations(page), []);
    assert.equal(await page.evaluate(motion), 'none');
    await ask(page, 'What is the capital of France?');
    await page.setInputFiles('#picture-files', picture('blue_square'));
    await ask(page, 'What is in this image?');
    await page.waitForFunction(
      () => document.querySelector('.user canvas').getContext('2d').getImageData(2, 2, 1, 1).data[3] > 0,
    );
    await page.evaluate(() => document.activeElement.blur());
    assert.deepEqual(await violations(page), []);
    const shot = await page.screenshot();
    const file = join(root, `docs/screenshots/demo_${name}.png`);
    if (process.env.UPDATE_SCREENSHOTS) writeFileSync(file, shot);
    assert.ok(existsSync(file), `Expected ${file}. UPDATE_SCREENSHOTS=1 writes it.`);
    const far = await difference(page, shot, readFileSync(file));
    assert.ok(far < 0.05, `The page differs from ${file} by ${far}. If that is right, run with UPDATE_SCREENSHOTS=1.`);

    await page.goto(`${site.address}/#tune`);
    await page.getByRole('button', {name: 'Sample task'}).click();
    await page.locator('#preview li').first().waitFor();
    assert.deepEqual(await violations(page), []);
    await page.goto(`${site.address}/#model`);
    await page.locator('#backends li').first().waitFor();
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(person.problems, []);
    await person.context.close();
  });
}

/** Sizes of the texts that can be seen, in pixels. */
const sizes = () => {
  const seen = [...document.body.querySelectorAll('*')].filter(
    node => node.checkVisibility() && [...node.childNodes].some(child => child.nodeType === 3 && child.data.trim()),
  );
  // Text of a drawing grows with it.
  const texts = seen.filter(node => !node.closest('svg, code'));
  return [...new Set(texts.map(node => parseFloat(getComputedStyle(node).fontSize)))].sort((a, b) => a - b);
};

test('from 320 to 2560 pixels: nothing is cut or scrolled sideways, and texts have four sizes', async () => {
  const person = await newPerson(browser, {viewport: {width: 320, height: 640}});
  const page = await person.open(site.address);
  await ready(page);
  assert.equal(await page.evaluate(motion), 'breathe');
  await ask(page, 'What is the capital of France?');
  const found = new Set();
  for (const width of [320, 700, 1100, 2560]) {
    await page.setViewportSize({width, height: 640});
    for (const section of ['chat', 'tune', 'model']) {
      await page.goto(`${site.address}/#${section}`);
      const {scrollWidth, clientWidth} = await page.evaluate(() => {
        const {scrollWidth: all, clientWidth: shown} = document.documentElement;
        return {scrollWidth: all, clientWidth: shown};
      });
      assert.ok(scrollWidth <= clientWidth, `${section} is ${scrollWidth} pixels wide of ${clientWidth}`);
      for (const size of await page.evaluate(sizes)) found.add(size);
    }
  }
  assert.deepEqual(
    [...found].filter(size => ![14, 16, 20, 24].includes(size)),
    [],
  );
  await person.context.close();
});

test('all by keyboard: skip, sections, a question, an edit, and the focus can be seen', async () => {
  const person = await newPerson(browser);
  const page = await person.open(site.address);
  await ready(page);
  const focused = () =>
    page.evaluate(() => document.activeElement.textContent.trim().slice(0, 40) || document.activeElement.id);
  await page.keyboard.press('Tab');
  assert.equal(await focused(), 'Skip to content');
  for (const link of ['Chat', 'Tune']) {
    await page.keyboard.press('Tab');
    assert.equal(await focused(), link);
  }
  assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.id === 'tune-title');
  await page.goBack();
  await page.waitForFunction(() => document.activeElement.id === 'chat-title');
  for (let i = 0; i < 20 && (await focused()) !== 'question'; i++) await page.keyboard.press('Tab');
  await page.keyboard.type('What is the capital of France?');
  await page.keyboard.press('Enter');
  await page.locator('.assistant .body').getByText('Paris').waitFor();
  assert.equal(await focused(), 'question');
  await page.getByRole('button', {name: 'Edit'}).focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.activeElement.tagName === 'TEXTAREA');
  await page.keyboard.press('Escape');
  assert.equal(await focused(), 'Edit');
  await person.context.close();
});

test('nothing moves when the model is there', async () => {
  const person = await newPerson(browser);
  const page = await person.context.newPage();
  await page.addInitScript(() => {
    globalThis.shift = 0;
    new PerformanceObserver(list => {
      for (const {value, hadRecentInput} of list.getEntries()) if (!hadRecentInput) globalThis.shift += value;
    }).observe({type: 'layout-shift', buffered: true});
  });
  await page.goto(site.address);
  await ready(page);
  assert.ok((await page.evaluate('globalThis.shift')) < 0.02);
  await person.context.close();
});

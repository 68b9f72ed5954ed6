/**
 * The chat of the page in `demo`: answers, stop, edits, stored conversations, pictures, and model output that is not
 * plain text.
 */
import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {after, before, test} from 'node:test';
import {ANSWER, answer, ask, newPerson, picture, QUESTION, ready, startBrowser, startSite} from './site.mjs';

let site;
let browser;
let person;
let page;
before(async () => {
  [site, browser] = await Promise.all([startSite(), startBrowser()]);
  person = await newPerson(browser, {permissions: ['clipboard-read', 'clipboard-write', 'camera']});
  page = await person.open(site.address);
});
after(async () => {
  await browser?.close();
  await site?.close();
});

test('the first paint has all of the page, and the small model is there at once', async () => {
  const fresh = await newPerson(browser, {javaScriptEnabled: false});
  const still = await fresh.open(site.address);
  assert.match(await still.locator('#where-text').innerText(), /gemma3_tiny is loading/);
  assert.ok(await still.getByRole('textbox', {name: 'Message'}).isVisible());
  await fresh.context.close();
  assert.equal(await ready(page), 'simd');
  assert.equal(await page.evaluate('crossOriginIsolated'), true);
});

test('answers, with numbers', async () => {
  assert.equal(await ask(page, QUESTION), ANSWER);
  assert.match(
    await page.locator('.message.assistant footer .note').innerText(),
    /^\d+ tokens, [\d.]+ tokens\/s · gemma3_tiny/,
  );
  assert.match(await page.locator('#numbers').innerText(), /^\d+ of \d+ tokens used · [\d.]+ .B of memory$/);
  assert.equal(await page.locator('#announcer').textContent(), `Gemma: ${ANSWER}`);
});

test('edit and send again, answer again, copy', async () => {
  await page.getByRole('button', {name: 'Edit'}).click();
  const field = page.getByRole('textbox', {name: 'Edit the message'});
  assert.equal(await field.inputValue(), QUESTION);
  await page.keyboard.press('Escape');
  await page.getByRole('button', {name: 'Edit'}).click();
  await field.fill('What is the capital of Peru?');
  await page.keyboard.press('Enter');
  await page.getByRole('log').getByText('Peru?').waitFor();
  assert.equal(await answer(page, 2), 'The capital of Peru is Lima.');
  await page.getByRole('button', {name: 'Answer again'}).click();
  await page.locator('[aria-busy=true]').waitFor({state: 'detached'});
  assert.equal(await answer(page, 2), 'The capital of Peru is Lima.');
  await page.locator('.assistant').getByRole('button', {name: 'Copy'}).click();
  await page.getByRole('button', {name: 'Copied'}).waitFor();
  assert.equal(await page.evaluate('navigator.clipboard.readText()'), 'The capital of Peru is Lima.');
});

test('stop keeps what was written, and the conversation goes on', async () => {
  await page.getByRole('button', {name: 'New conversation'}).click();
  // The stop comes with the first piece: this small model would have ended before a click arrives from here.
  await page.evaluate(() => {
    const log = document.querySelector('#log');
    new MutationObserver((_, observer) => {
      const body = log.querySelector('[aria-busy=true] .body');
      if (!body || /^…?$/.test(body.textContent.trim())) return;
      observer.disconnect();
      document.querySelector('#stop').click();
    }).observe(log, {childList: true, subtree: true});
  });
  const settings = page.getByRole('complementary', {name: 'Settings'});
  await settings.getByLabel('Sampler').selectOption('random');
  await settings.getByLabel('Temperature').fill('5');
  await settings.getByLabel('Seed').fill('3');
  await settings.getByLabel('Longest answer').fill('2000');
  await settings.getByLabel('Longest conversation').fill('4096');
  await page.getByRole('textbox', {name: 'Message'}).fill('Tell me all');
  await page.getByRole('button', {name: 'Send'}).click();
  const stopped = await answer(page, 2);
  assert.ok(stopped.length > 0);
  assert.match(await page.locator('.assistant footer').innerText(), /stopped · gemma3_tiny/);
  await settings.getByLabel('Sampler').selectOption('greedy');
  assert.ok((await ask(page, QUESTION)).length > 0);
});

test('conversations, system text and settings are kept; another tab follows; export', async () => {
  const settings = page.getByRole('complementary', {name: 'Settings'});
  await page.getByRole('button', {name: 'New conversation'}).click();
  await settings.getByLabel('System text').fill('Be brief.');
  await settings.getByLabel('System text').blur();
  const reply = await ask(page, QUESTION);
  await page.reload();
  await ready(page);
  assert.equal(await page.locator('.message').count(), 2);
  assert.equal(await settings.getByLabel('System text').inputValue(), 'Be brief.');
  assert.equal(await settings.getByLabel('Longest conversation').inputValue(), '4096');
  const titles = page.getByRole('complementary', {name: 'Conversations'}).getByRole('listitem');
  assert.equal(await titles.count(), 3);
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('button', {name: 'Export conversation'}).click(),
  ]);
  const {messages} = JSON.parse(readFileSync(await download.path(), 'utf8'));
  assert.deepEqual(
    messages.map(({role, content}) => [role, content]),
    [
      ['system', 'Be brief.'],
      ['user', QUESTION],
      ['assistant', reply],
    ],
  );

  const other = await person.open(site.address);
  await ready(other);
  await other.getByText(QUESTION).first().waitFor();
  await ask(other, 'Hello!');
  await page.getByRole('log').getByText('Hello!', {exact: true}).waitFor();
  await page.getByRole('button', {name: `Delete ${QUESTION}`}).click();
  await other.getByText('Everything stays on this machine.').waitFor();
  await other.close();
});

test('HTML and addresses in an answer do nothing', async () => {
  const text =
    '<img src="https://evil.example/a.png" onerror="globalThis.hit=1"><script>globalThis.hit=2</script>' +
    '\n\n![picture](https://evil.example/b.png) [link](javascript:globalThis.hit=3) [good](https://example.org/)' +
    '\n\n**bold** `code`\n\n```js\nlet a = 1 < 2;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x] done';
  await page.evaluate(async content => {
    const open = indexedDB.open('gemma3-demo');
    const database = await new Promise(resolve => (open.onsuccess = () => resolve(open.result)));
    const messages = [
      {role: 'user', text: '<b>mine</b>'},
      {role: 'assistant', text: content},
    ];
    const record = {id: 'x', title: '<i>title</i>', changed: Date.now() + 1e6, system: '', messages};
    const put = database.transaction('conversations', 'readwrite').objectStore('conversations').put(record);
    await new Promise(resolve => (put.onsuccess = resolve));
    database.close();
    sessionStorage.setItem('gemma3-conversation', 'x');
  }, text);
  await page.reload();
  await ready(page);
  const body = page.locator('.assistant .body');
  assert.match(await body.innerText(), /<img src="https:\/\/evil\.example\/a\.png" onerror=/);
  assert.deepEqual(await body.locator('img, script, iframe, [onerror]').count(), 0);
  const links = await body.locator('a[href]').evaluateAll(all => all.map(({href, rel}) => [href, rel]));
  assert.deepEqual(links, [['https://example.org/', 'noopener noreferrer']]);
  assert.equal(await body.locator('strong').innerText(), 'bold');
  assert.equal(await body.locator('pre code').innerText(), 'let a = 1 < 2;\n');
  assert.equal(await body.locator('table').count(), 1);
  assert.equal(await page.locator('.user .body').innerText(), '<b>mine</b>');
  assert.equal(await page.evaluate('globalThis.hit'), undefined);
});

test('pictures: a file, dropped, pasted, from the camera, as the model sees them', async () => {
  await page.getByRole('button', {name: 'New conversation'}).click();
  const settings = page.getByRole('complementary', {name: 'Settings'});
  await settings.getByLabel('System text').fill('');
  await settings.getByLabel('System text').blur();
  const attached = page.getByRole('list', {name: 'Pictures of this message'}).getByRole('listitem');
  await page.setInputFiles('#picture-files', picture('wide_pink_diamond'));
  await attached.first().waitFor();
  await page.waitForFunction(() => {
    const canvas = document.querySelector('#attachments canvas');
    return canvas.getContext('2d').getImageData(32, 32, 1, 1).data[0] > 200;
  });
  assert.deepEqual(await attached.locator('canvas').evaluate(({width, height}) => [width, height]), [64, 64]);
  await attached.getByRole('button', {name: 'Remove wide_pink_diamond.png'}).click();
  assert.equal(await attached.count(), 0);

  const bytes = readFileSync(picture('blue_square')).toString('base64');
  for (const type of ['drop', 'paste']) {
    await page.evaluate(
      ([event, base64]) => {
        const blob = Uint8Array.from(atob(base64), sign => sign.charCodeAt(0));
        const data = new DataTransfer();
        data.items.add(new File([blob], `${event}.png`, {type: 'image/png'}));
        const options = {bubbles: true, cancelable: true};
        const target = document.querySelector('#question');
        if (event === 'drop') target.dispatchEvent(new DragEvent('drop', {...options, dataTransfer: data}));
        else target.dispatchEvent(new ClipboardEvent('paste', {...options, clipboardData: data}));
      },
      [type, bytes],
    );
    assert.equal(await attached.count(), 1);
    assert.equal(
      await ask(page, type === 'drop' ? 'What is in this image?' : 'What is in the picture?'),
      'A blue square.',
    );
    assert.equal(
      await page
        .locator('.user canvas')
        .last()
        .evaluate(({width}) => width),
      64,
    );
    await page.getByRole('button', {name: 'New conversation'}).click();
  }

  await page.getByRole('button', {name: 'Camera…'}).click();
  const dialog = page.getByRole('dialog', {name: 'Camera'});
  await dialog.getByRole('button', {name: 'Take picture', disabled: false}).click();
  await attached.first().waitFor();
  assert.ok((await ask(page, 'What is in this image?')).length > 0);
  await page.getByRole('button', {name: 'Camera…'}).click();
  await page.keyboard.press('Escape');
  await dialog.waitFor({state: 'hidden'});
});

test('a conversation that is full says so, and the message is not lost', async () => {
  await page.getByRole('button', {name: 'New conversation'}).click();
  const settings = page.getByRole('complementary', {name: 'Settings'});
  await settings.getByLabel('Longest conversation').fill('64');
  await page.getByRole('textbox', {name: 'Message'}).fill('the sea '.repeat(60));
  await page.keyboard.press('Enter');
  await page.getByText('The conversation is full.').last().waitFor();
  assert.match(await page.getByRole('textbox', {name: 'Message'}).inputValue(), /the sea/);
  await settings.getByLabel('Longest conversation').fill('');
});

test('each sampler, with the settings that it reads', async () => {
  const settings = page.getByRole('complementary', {name: 'Settings'});
  const sampler = settings.getByLabel('Sampler');
  const [topK, topP] = ['k', 'p'].map(name => settings.getByLabel(name, {exact: true}));
  await sampler.selectOption('greedy');
  assert.deepEqual([await topK.isVisible(), await topP.isVisible()], [false, false]);
  // Only the most probable token is left.
  await sampler.selectOption('top_k');
  assert.deepEqual([await topK.isVisible(), await topP.isVisible()], [true, false]);
  await settings.getByLabel('Temperature').fill('3');
  await topK.fill('1');
  await page.getByRole('button', {name: 'New conversation'}).click();
  assert.equal(await ask(page, QUESTION), ANSWER);
  await sampler.selectOption('top_p');
  await topK.fill('64');
  await settings.getByLabel('Temperature').fill('1');
  await topP.fill('0.05');
  await page.getByRole('button', {name: 'New conversation'}).click();
  assert.equal(await ask(page, QUESTION), ANSWER);
  await topP.fill('0.95');
  await sampler.selectOption('greedy');
});

test('nothing went wrong, and no other host was asked', () => {
  assert.deepEqual(person.problems, []);
  assert.deepEqual([...person.hosts], [new URL(site.address).host]);
});

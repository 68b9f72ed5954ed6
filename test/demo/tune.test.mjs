/** Tuning on the page in `demo`: the sample task, pause, before and after, adapters as files. */
import assert from 'node:assert/strict';
import {readFileSync} from 'node:fs';
import {after, before, test} from 'node:test';
import {newPerson, picture, ready, startBrowser, startSite} from './site.mjs';

let site;
let browser;
let person;
let page;
let saved;
let tuned;
before(async () => {
  [site, browser] = await Promise.all([startSite(), startBrowser()]);
  person = await newPerson(browser);
  page = await person.open(`${site.address}/#tune`);
  await ready(page);
});
after(async () => {
  await browser?.close();
  await site?.close();
});

const status = pattern => page.locator('#tune-progress', {hasText: pattern}).waitFor({timeout: 60_000});
const field = name => page.getByRole('spinbutton', {name});

test('lines: a table, JSONL, what is wrong with them, and the tokens that count', async () => {
  const lines = page.getByRole('textbox', {name: /One example per line/});
  const tokens = page.locator('#preview li');
  await lines.fill('The sea is\tblue.\nThe sky is\tblue, and high.');
  await tokens.nth(1).waitFor();
  assert.match(await tokens.first().innerText(), /<start_of_turn>.*user/);
  assert.match((await tokens.first().locator('mark').allInnerTexts()).join(''), /^bl?.*ue.*<end_of_turn>/);
  await page.getByLabel('As turns of a conversation').uncheck();
  await page.waitForFunction(() => !document.querySelector('#preview').textContent.includes('start_of_turn'));
  await lines.fill('{"prompt": "a", "response": "b"}\n{"prompt": 1}');
  await page.getByText('Line 2 lacks a prompt or a response.').waitFor();
  await lines.fill('prompt,response\n"a, b","c"\n');
  await page.getByText('1 row,').waitFor();
  await lines.fill('prompt,response,image\nWhat is it?,A blue square.,blue_square.png\n');
  await page.getByText('The picture "blue_square.png" was not loaded.').waitFor();
  await page.setInputFiles('#tune-files', picture('blue_square'));
  await page.waitForFunction(() => document.querySelector('#preview').textContent.includes('<start_of_image>'));
  await page.getByLabel('As turns of a conversation').check();
});

test('pictures: pasted, previewed, trained on', async () => {
  const lines = page.getByRole('textbox', {name: /One example per line/});
  const list = page.getByRole('list', {name: 'Pictures that lines name'}).getByRole('listitem');
  await list.getByRole('button', {name: 'Remove blue_square.png'}).click();
  await page.getByText('The picture "blue_square.png" was not loaded.').waitFor();
  await lines.fill('What is it?\tA blue circle.\t');
  await page.evaluate(
    base64 => {
      const bytes = Uint8Array.from(atob(base64), sign => sign.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'image.png', {type: 'image/png'}));
      const options = {bubbles: true, cancelable: true, clipboardData: data};
      document.querySelector('#tune-text').dispatchEvent(new ClipboardEvent('paste', options));
    },
    readFileSync(picture('red_circle')).toString('base64'),
  );
  assert.equal(await lines.inputValue(), 'What is it?\tA blue circle.\tpicture-1.png');
  await page.waitForFunction(() => {
    const canvas = document.querySelector('#tune-pictures canvas');
    return canvas?.width === 64 && canvas.getContext('2d').getImageData(32, 32, 1, 1).data[0] > 150;
  });
  await page.locator('#preview', {hasText: '<start_of_image>'}).waitFor();
  await field('Epochs').fill('30');
  await page.getByRole('button', {name: 'Start', exact: true}).click();
  await status(/^Done in /);
  const curve = await page.locator('#curve svg[aria-label*="30 of 30"]').getAttribute('aria-label');
  const [, first, last] = /from ([\d.]+) to ([\d.]+) after 30 of 30 steps/.exec(curve);
  assert.ok(Number(last) < 0.5 * Number(first), curve);
  await page.getByRole('link', {name: 'Chat'}).click();
  await page.setInputFiles('#picture-files', picture('red_circle'));
  await page.getByRole('textbox', {name: 'Message'}).fill('What is it?');
  await page.keyboard.press('Enter');
  await page.locator('.assistant .body', {hasText: 'A blue circle.'}).waitFor();
  await page.getByRole('button', {name: 'New conversation'}).click();
  await page.getByRole('link', {name: 'Tune'}).click();
  await field('Epochs').fill('10');
});

test('lines from a file', async () => {
  const buffer = Buffer.from(
    '{"prompt": "The moon is", "response": "far."}\n{"prompt": "Stars are", "response": "far."}',
  );
  await page.setInputFiles('#tune-files', {name: 'lines.jsonl', mimeType: 'application/jsonl', buffer});
  await page.locator('#preview', {hasText: 'Stars'}).waitFor();
  await page.getByText('2 rows,').waitFor();
});

test('the sample task: paused, tried meanwhile, done; before and after', async () => {
  await page.getByRole('button', {name: 'Sample task'}).click();
  await page.getByText('24 rows,').waitFor();
  await page.getByRole('button', {name: 'Start', exact: true}).click();
  await status(/^Step \d+ of 60, loss [\d.]+, .* left\.$/);
  await page.getByRole('button', {name: 'Pause'}).click();
  await status('Paused.');
  const steps = () => page.locator('#curve svg').getAttribute('aria-label');
  const resting = await steps();
  assert.match(resting, /after \d+ of 60 steps/);
  await page.getByRole('button', {name: 'Ask both'}).click();
  await page.locator('#try-before', {hasText: 'Lima.'}).waitFor();
  assert.equal(await steps(), resting);
  await page.getByRole('button', {name: 'Resume'}).click();
  await status(/^Done in /);
  await page.locator('#try-after', {hasText: 'more.'}).waitFor({timeout: 30_000});
  assert.equal(await page.locator('#try-before').innerText(), 'The capital of Peru is Lima.');
  tuned = await page.locator('#try-after').innerText();
  assert.equal(tuned, 'The capital of Peru is Lima! Ask me more.');
});

test('the chat uses the tuned model', async () => {
  await page.getByRole('link', {name: 'Chat'}).click();
  await page.getByRole('textbox', {name: 'Message'}).fill('What is the capital of Finland?');
  await page.keyboard.press('Enter');
  await page.locator('.assistant footer', {hasText: 'gemma3_tiny, tuned'}).waitFor();
  assert.match(await page.locator('.assistant .body').innerText(), /Ask me more/);
  await page.getByRole('link', {name: 'Tune'}).click();
});

test('adapters: downloaded, loaded again after a reload', async () => {
  const download = async name => {
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', {name}).click()]);
    return {name: file.suggestedFilename(), buffer: readFileSync(await file.path())};
  };
  saved = await download('Download .lora.h5');
  assert.equal(saved.name, 'gemma3_tiny-tuned.lora.h5');
  assert.equal(saved.buffer.subarray(1, 4).toString(), 'HDF');
  const files = [];
  page.on('download', async file =>
    files.push({name: file.suggestedFilename(), buffer: readFileSync(await file.path())}),
  );
  await page.getByRole('button', {name: 'Download for PEFT'}).click();
  await page.getByText('Two files, which').waitFor();
  while (files.length < 2) await new Promise(resolve => setTimeout(resolve, 50));
  assert.deepEqual(files.map(({name}) => name).sort(), ['adapter_config.json', 'adapter_model.safetensors']);

  await page.reload();
  await ready(page);
  const asFiles = all => all.map(({name, buffer}) => ({name, buffer, mimeType: 'application/octet-stream'}));
  for (const adapter of [[saved], files]) {
    await page.setInputFiles('#load-adapter', asFiles(adapter));
    await page.locator('#adapter-note', {hasText: 'is loaded.'}).waitFor();
    // Else the answer of the adapter before might be read.
    await page.locator('#try-after').evaluate(node => node.replaceChildren());
    await page.getByRole('button', {name: 'Ask both'}).click();
    await page.locator('#try-after', {hasText: 'more.'}).waitFor();
    assert.equal(await page.locator('#try-after').innerText(), tuned);
    await page.locator('#try-ask:enabled').waitFor();
  }
  await page.setInputFiles('#load-adapter', asFiles([{name: 'wrong.lora.h5', buffer: Buffer.from('no HDF5')}]));
  await page.locator('#adapter-note', {hasText: 'is not an HDF5 file'}).waitFor();
});

test('stop keeps what was learned; a wrong value is said', async () => {
  await page.getByRole('button', {name: 'Sample task'}).click();
  await field('Epochs').fill('500');
  await page.getByRole('button', {name: 'Start', exact: true}).click();
  await status(/^Step 2 of|^Step [3-9] of/);
  await page.getByRole('button', {name: 'Stop', exact: true}).click();
  await status(/^Stopped after .* What was learned is kept\.$/);
  await page.getByRole('button', {name: 'Download .lora.h5', disabled: false}).waitFor();
  await field('Rank').fill('0');
  await page.getByRole('button', {name: 'Start', exact: true}).click();
  assert.equal(await field('Rank').evaluate(({validity}) => validity.rangeUnderflow), true);
});

test('nothing went wrong, and no other host was asked', () => {
  assert.deepEqual(person.problems, []);
  assert.deepEqual([...person.hosts], [new URL(site.address).host]);
});

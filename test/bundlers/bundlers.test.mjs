/**
 * The packed package in each bundler: built as a user would, without configuration, and run in Chromium. Needs the npm
 * registry and Chromium: `npm run test:bundlers`. BUNDLERS_FOLDER names a folder that keeps what is installed.
 */
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {setTimeout} from 'node:timers/promises';
import {chromium} from 'playwright-core';
import {freePort, serve} from '../browser/server.mjs';
import {install, run} from '../package/install.mjs';
import {ANSWER, builders, viteServer, writeNextApp, writeSources} from './apps.mjs';

const TOOLS = [
  'esbuild@0.28.2',
  'rollup@4.68.8',
  '@rollup/plugin-node-resolve@16.0.3',
  '@rollup/plugin-commonjs@29.0.3',
].concat(['vite@8.4.0', 'webpack@5.113.0', 'next@16.4.6', 'react@19.2.0', 'react-dom@19.2.0']);
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

const kept = process.env.BUNDLERS_FOLDER;
const folder = kept ?? mkdtempSync(join(tmpdir(), 'tfjs-gemma3-bundlers-'));
let browser;

before(async () => {
  mkdirSync(folder, {recursive: true});
  if (!kept || !existsSync(join(folder, 'node_modules/tfjs-gemma3'))) install(folder, ['--ignore-scripts']);
  if (!kept || !existsSync(join(folder, 'node_modules/next'))) {
    const quick = ['--no-audit', '--no-fund', '--prefer-offline'];
    const {status, stderr} = run('npm', ['install', ...quick, ...TOOLS], {cwd: folder});
    assert.equal(status, 0, stderr);
  }
  writeSources(folder);
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  });
});
after(async () => {
  await browser?.close();
  if (!kept) rmSync(folder, {recursive: true});
});

/** Opens a page and calls functions that it sets. → what they return, or the text of the error, by name */
async function callInPage(address, names) {
  const tab = await browser.newPage();
  const problems = [];
  tab.on('pageerror', error => problems.push(String(error)));
  await tab.goto(address);
  await tab
    .waitForFunction(() => 'inPage' in globalThis, undefined, {timeout: 60_000})
    .catch(error => {
      throw new Error(`${error.message} ${problems.join(' ')}`);
    });
  const call = name => globalThis[name]().catch(error => `${error.name}: ${error.message}`);
  const results = {};
  for (const name of names) results[name] = await tab.evaluate(call, name);
  await tab.close();
  return {...results, problems};
}

/** As {@link callInPage}, on the files in a folder, behind a static server. */
async function callServed(root, names) {
  const server = await serve(root);
  try {
    return await callInPage(`${server.address}/index.html`, names);
  } finally {
    await server.close();
  }
}

const filesIn = path =>
  readdirSync(path, {recursive: true, withFileTypes: true})
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name));

const withPreset = path =>
  filesIn(path).filter(file => /\.(h5|spm)$/.test(file) || readFileSync(file, 'latin1').includes('iUhERg0KGgo'));

const works = {inPage: ANSWER, inWorker: ANSWER, problems: []};

for (const [name, build] of Object.entries(builders)) {
  describe(name, () => {
    const output = program => join(folder, 'built', name.replace(/\W+/g, '_'), program);

    test(`${name}: gemma3_tiny answers by name, in the page and in a Worker`, async () => {
      await build(folder, 'app', output('app'));
      assert.deepEqual(await callServed(output('app'), ['inPage', 'inWorker']), works);
      assert.ok(withPreset(output('app')).length > 0);
    });

    test(`${name}: base classes find the classes of a preset, which the program does not name`, async () => {
      await build(folder, 'base', output('base'));
      const {inPage} = await callServed(output('base'), ['inPage']);
      assert.equal(inPage, `${ANSWER},Gemma3CausalLM,Gemma3Tokenizer`);
    });

    test(`${name}: a program that does not import it has no preset, and is told what to add`, async () => {
      await build(folder, 'without', output('without'));
      const {inPage} = await callServed(output('without'), ['inPage']);
      assert.match(inPage, /^ValueError: .*Add `import 'tfjs-gemma3\/presets\/gemma3_tiny'` to it/);
      assert.deepEqual(withPreset(output('without')), []);
    });
  });
}

test('without a bundler: an import map, and gemma3_tiny by name from the served package', async () => {
  const guide = readFileSync(new URL('../../docs/browser.md', import.meta.url), 'utf8');
  const [, recipe] = /^```html\n(<!doctype html>\n<script type="importmap">[^]*?)^```$/m.exec(guide);
  writeFileSync(join(folder, 'recipe.html'), recipe);
  const server = await serve(folder);
  try {
    const tab = await browser.newPage();
    await tab.goto(`${server.address}/recipe.html`);
    await tab.waitForFunction(text => document.body.textContent.includes(text), 'The capital of France is Paris.');
    await tab.close();
  } finally {
    await server.close();
  }
});

test("Vite's development server: gemma3_tiny answers by name, in the page and in a Worker", async () => {
  const {address, close} = await viteServer(folder, 'app');
  try {
    assert.deepEqual(await callInPage(address, ['inPage', 'inWorker']), works);
  } finally {
    await close();
  }
});

test('Next.js: gemma3_tiny answers on the server, in the page and in a Worker', async () => {
  const root = writeNextApp(folder);
  const next = createRequire(join(folder, 'x.js')).resolve('next/dist/bin/next');
  const env = {...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_ENV: 'production'};
  const built = run(process.execPath, [next, 'build', root], {cwd: root, env});
  assert.equal(built.status, 0, built.stdout + built.stderr);
  const port = String(await freePort());
  const child = spawn(process.execPath, [next, 'start', root, '-p', port], {cwd: root, env, stdio: 'pipe'});
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', data => (said += data));
  try {
    const address = `http://127.0.0.1:${port}`;
    while (!(await fetch(`${address}/`).catch(() => undefined))) {
      assert.equal(child.exitCode, null, said);
      await setTimeout(200);
    }
    const answer = await fetch(`${address}/api`);
    assert.equal(await answer.text(), ANSWER, said);
    assert.deepEqual(await callInPage(address, ['inPage', 'inWorker']), works);
  } finally {
    child.kill();
  }
});

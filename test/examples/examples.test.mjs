/**
 * The programs in `examples`, with the packed package: built, and run as their READMEs say. Needs the npm registry and
 * Chromium: `npm run test:examples`. EXAMPLES_FOLDER names a folder that keeps what is installed.
 */
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, test} from 'node:test';
import {setTimeout} from 'node:timers/promises';
import {fileURLToPath} from 'node:url';
import {chromium} from 'playwright-core';
import {freePort} from '../browser/server.mjs';
import {pack, run} from '../package/install.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const examples = join(root, 'examples');
const {version, devDependencies} = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const names = readdirSync(examples).filter(name => existsSync(join(examples, name, 'package.json')));
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
const env = {...process.env, NEXT_TELEMETRY_DISABLED: '1', NODE_OPTIONS: ''};

const kept = process.env.EXAMPLES_FOLDER;
const folder = kept ?? mkdtempSync(join(tmpdir(), 'tfjs-gemma3-examples-'));

/** One installation for all examples, in which `tfjs-gemma3` is the packed package instead of npm's. */
before(() => {
  mkdirSync(folder, {recursive: true});
  for (const name of names) {
    const filter = path => !/[\\/](node_modules|dist|\.next)$/.test(path);
    cpSync(join(examples, name), join(folder, name), {recursive: true, filter});
  }
  if (existsSync(join(folder, 'node_modules'))) return;
  const {filename} = pack(folder, ['--ignore-scripts']);
  const manifest = {
    name: 'examples',
    private: true,
    workspaces: names,
    dependencies: {'tfjs-gemma3': `file:./${filename}`},
    overrides: {'tfjs-gemma3': '$tfjs-gemma3'},
  };
  writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest));
  const quick = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
  const {status, stderr} = run('npm', ['install', ...quick], {cwd: folder});
  assert.equal(status, 0, stderr);
});
after(() => {
  if (!kept) rmSync(folder, {recursive: true});
});

/** Runs a script of an example's package.json, which must succeed. → its output */
function script(name, command) {
  const {status, stdout, stderr} = run('npm', ['run', '--silent', command], {cwd: join(folder, name), env});
  assert.equal(status, 0, stdout + stderr);
  return stdout;
}

/** Runs a server of an example while `use` runs. `bin` is its program in node_modules. */
async function withServer(name, bin, args, use) {
  const port = await freePort();
  const program = join(folder, 'node_modules', bin);
  const child = spawn(process.execPath, [program, ...args(port)], {cwd: join(folder, name), env, stdio: 'pipe'});
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', data => (said += data));
  try {
    const address = `http://127.0.0.1:${port}`;
    while (!(await fetch(address).catch(() => undefined))) {
      assert.equal(child.exitCode, null, said);
      await setTimeout(100);
    }
    await use(address, () => said);
  } finally {
    child.kill();
  }
}

test('the examples are these, and each names exact versions', () => {
  assert.deepEqual(names, [
    'next-stream',
    'node-tune',
    'vite-summarize',
    'worker-react',
    'worker-svelte',
    'worker-thread',
  ]);
  for (const name of names) {
    const manifest = JSON.parse(readFileSync(join(examples, name, 'package.json'), 'utf8'));
    const all = {...manifest.dependencies, ...manifest.devDependencies};
    for (const wanted of Object.values(all)) assert.match(wanted, /^\d+\.\d+\.\d+$/);
    assert.equal(all['tfjs-gemma3'], version);
    assert.equal(`^${all['@tensorflow/tfjs']}`, devDependencies['@tensorflow/tfjs']);
    assert.ok(existsSync(join(examples, name, 'README.md')));
  }
});

test('worker-thread: answers side by side, stops, and ends', () => {
  const lines = script('worker-thread', 'start').trimEnd().split('\n');
  assert.match(lines.shift(), /^The model is ready on "simd"\.$/);
  assert.deepEqual(lines, [
    'What is the capital of Peru? The capital of Peru is Lima.',
    'On which continent is Kenya? Kenya is in Africa.',
    'Stopped after:  The capital of',
    'The main thread stayed responsive.',
    'The thread of the model has ended.',
  ]);
});

test('worker-thread: a preset that is not there is an error of the main process', () => {
  const options = {cwd: join(folder, 'worker-thread'), env};
  const {status, stderr} = run(process.execPath, ['dist/main.js', './nowhere'], options);
  assert.equal(status, 1);
  assert.match(stderr, /Received: "\.\/nowhere", which is none of these/);
});

test('node-tune: answers differently after its training, and keeps the weights', () => {
  const lines = script('node-tune', 'start').split('\n');
  const answers = when => lines.filter(line => line.startsWith(`${when}: `)).map(line => line.split('? ')[1]);
  assert.deepEqual(answers('before'), ['The capital of Peru is Lima.', 'The capital of Finland is Helsinki.']);
  assert.deepEqual(answers('after'), ['Lima!', 'Helsinki!']);
  assert.ok(existsSync(join(folder, 'node-tune/tuned.lora.h5')));
});

test('vite-summarize: streams in a Worker with threads, and stops', async () => {
  script('vite-summarize', 'build');
  const args = port => ['preview', '--host', '127.0.0.1', '--port', String(port), '--strictPort'];
  await withServer('vite-summarize', 'vite/bin/vite.js', args, async address => {
    const browser = await chromium.launch({executablePath, args: ['--no-sandbox', '--disable-gpu', '--no-first-run']});
    try {
      const page = await browser.newPage();
      const problems = [];
      page.on('pageerror', error => problems.push(String(error)));
      await page.goto(address);
      const says = pattern => page.locator('#status', {hasText: pattern}).waitFor({timeout: 60_000});
      await says('gemma3_tiny is ready on "simd".');
      assert.equal(await page.evaluate('crossOriginIsolated'), true);
      await page.getByRole('button', {name: 'Summarize'}).click();
      await says(/^\d+ tokens, then \d+ \((stop|length)\)\.$/);
      assert.match(await page.locator('output').textContent(), /\w/);
      // Both at once: this small model would have ended before a second click arrives from here.
      await page.evaluate(`document.querySelectorAll('button').forEach(button => button.click())`);
      await says('Stopped.');
      await page.getByRole('button', {name: 'Summarize', disabled: false}).waitFor();
      assert.deepEqual(problems, []);
    } finally {
      await browser.close();
    }
  });
});

/** Files that a page loads at once: its scripts, not those of its Worker. */
const pageScripts = name => {
  const out = join(folder, name, 'dist');
  const html = readFileSync(join(out, 'index.html'), 'utf8');
  return [...html.matchAll(/(?:src|href)="(\/assets\/[^"]+\.js)"/g)].map(([, path]) => readFileSync(join(out, path)));
};

for (const [name, limit] of Object.entries({'worker-react': 260_000, 'worker-svelte': 60_000})) {
  test(`${name}: a conversation with a model in a Worker, whose code the page does not load`, async () => {
    script(name, 'build');
    const bytes = pageScripts(name).reduce((sum, {length}) => sum + length, 0);
    assert.ok(bytes > 5_000 && bytes < limit, `Expected at most ${limit} bytes. Received: ${bytes}.`);
    const args = port => ['preview', '--host', '127.0.0.1', '--port', String(port), '--strictPort'];
    await withServer(name, 'vite/bin/vite.js', args, async address => {
      const browser = await chromium.launch({
        executablePath,
        args: ['--no-sandbox', '--disable-gpu', '--no-first-run'],
      });
      try {
        const page = await browser.newPage();
        const problems = [];
        page.on('pageerror', error => problems.push(String(error)));
        await page.goto(address);
        const says = pattern => page.getByRole('status').filter({hasText: pattern}).waitFor({timeout: 60_000});
        await says('gemma3_tiny is ready on "simd".');
        await page.getByRole('button', {name: 'Ask'}).click();
        await says(/^\d+ tokens, \d+ of \d+ in the conversation\.$/);
        assert.match(await page.getByRole('log').textContent(), /Gemma: The capital of France is Paris\.$/);
        await page.getByRole('textbox').fill('What is the capital of Peru?');
        await page.getByRole('button', {name: 'Ask'}).click();
        await page.getByRole('log').getByText('Peru?').waitFor();
        await page.getByRole('button', {name: 'Ask', disabled: false}).waitFor();
        assert.deepEqual(problems, []);
      } finally {
        await browser.close();
      }
    });
  });
}

test('next-stream: the route answers in pieces', async () => {
  script('next-stream', 'build');
  const args = port => ['start', '--hostname', '127.0.0.1', '--port', String(port)];
  await withServer('next-stream', 'next/dist/bin/next', args, async (address, said) => {
    const post = body => fetch(`${address}/api/generate`, {method: 'POST', body: JSON.stringify(body)});
    const pieces = [];
    const answer = await post({prompt: 'What is the capital of Peru?'});
    assert.equal(answer.status, 200, said());
    for await (const piece of answer.body.pipeThrough(new TextDecoderStream())) pieces.push(piece);
    assert.equal(pieces.join(''), 'The capital of Peru is Lima.');
    assert.ok(pieces.length > 1, 'all text came at once');
    assert.equal((await post({prompt: 3})).status, 400);
  });
});

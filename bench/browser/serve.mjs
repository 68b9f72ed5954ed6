/**
 * Serves a page that measures this package, transformers.js and web-llm alternately, on the GPU of the browser that
 * opens it. Needs a build: `npm run build`. See README.md here.
 *
 *     node bench/browser/serve.mjs [--preset FOLDER] [--port 4180]
 *     node bench/browser/serve.mjs --headless [--preset FOLDER] [--sides ours,transformers,web-llm]
 *
 * `--headless` opens the page in Chromium (CHROMIUM, or /usr/bin/chromium) on an adapter in software, and prints what
 * the page shows. This only tests the page; its times say nothing about GPUs.
 */
import {existsSync, readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {createReadStream} from 'node:fs';
import {stat} from 'node:fs/promises';
import {dirname, extname, join, normalize, resolve, sep} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {build} from 'esbuild';
import {DEFAULTS} from './page/settings.js';

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, '..', '..');
const {values} = parseArgs({
  options: {
    port: {type: 'string', default: '4180'},
    preset: {type: 'string', default: join(root, 'presets/gemma3_tiny')},
    models: {type: 'string'},
    headless: {type: 'boolean', default: false},
    ...Object.fromEntries(Object.keys(DEFAULTS).map(name => [name, {type: 'string'}])),
  },
});
const PACKAGES = {transformers: '@huggingface/transformers', 'web-llm': '@mlc-ai/web-llm'};

const TYPES = {'.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json'};
/** ONNX Runtime loads this as WebAssembly only with its type. */
TYPES['.wasm'] = 'application/wasm';
/** ONNX Runtime uses threads for what it does not run on the GPU; they need a page that may share memory. */
const ISOLATION = {'cross-origin-opener-policy': 'same-origin', 'cross-origin-embedder-policy': 'require-corp'};

const versionAt = folder => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version;

/** Bundles a module of the page. → text */
async function bundle(entry) {
  const {outputFiles} = await build({
    entryPoints: [join(here, 'page', entry)],
    bundle: true,
    format: 'esm',
    platform: 'browser',
    conditions: ['browser', 'onnxruntime-web-use-extern-wasm'],
    alias: {'tfjs-gemma3': join(root, 'dist/browser/index.js')},
    define: {VERSIONS: JSON.stringify(versions)},
    write: false,
    logLevel: 'error',
    tsconfigRaw: '{}',
  });
  return outputFiles[0].text;
}

const versions = {ours: versionAt(root)};
const modules = new Map();
/** A module of the page; of a side whose package is not installed, one that says so. */
function moduleOf(name) {
  if (!modules.has(name)) modules.set(name, makeModule(name));
  return modules.get(name);
}

async function makeModule(name) {
  const dependency = PACKAGES[name];
  if (dependency && !versions[name]) {
    const {dependencies} = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));
    const message = `${dependency} ${dependencies[dependency]} is not installed. Run: npm install --prefix bench/browser`;
    return `throw new Error(${JSON.stringify(message)});`;
  }
  return bundle(name === 'page' ? 'page.js' : `sides/${name.replace('-', '_')}.js`);
}

for (const [side, dependency] of Object.entries(PACKAGES)) {
  const folder = join(here, 'node_modules', dependency);
  if (existsSync(join(folder, 'package.json'))) versions[side] = versionAt(folder);
}

/** Folders that the page reads, by the first part of the address. */
const FOLDERS = {
  preset: resolve(values.preset),
  models: values.models && resolve(values.models),
  onnxruntime: join(here, 'node_modules/onnxruntime-web/dist'),
};

async function answer(request, response) {
  const {pathname} = new URL(request.url, 'http://localhost');
  const send = (text, type) => response.writeHead(200, {'content-type': type, ...ISOLATION}).end(text);
  if (pathname === '/') return send(readFileSync(join(here, 'page/index.html')), TYPES['.html']);
  const [, name] = /^\/modules\/([a-z-]+)\.js$/.exec(pathname) ?? [];
  if (name === 'page' || name === 'ours' || name in PACKAGES) return send(await moduleOf(name), TYPES['.js']);
  const [, part, rest] = /^\/([a-z]+)\/(.+)$/.exec(decodeURIComponent(pathname)) ?? [];
  const folder = FOLDERS[part];
  const file = folder && normalize(join(folder, rest));
  const found = file?.startsWith(folder + sep) ? await stat(file).catch(() => undefined) : undefined;
  if (!found?.isFile()) return response.writeHead(404, ISOLATION).end();
  const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
  const start = range ? Number(range[1]) : 0;
  const end = range?.[2] ? Math.min(Number(range[2]), found.size - 1) : found.size - 1;
  response.writeHead(range ? 206 : 200, {
    'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
    'content-length': end - start + 1,
    ...(range && {'content-range': `bytes ${start}-${end}/${found.size}`}),
    ...ISOLATION,
  });
  if (request.method === 'HEAD' || found.size === 0) response.end();
  else createReadStream(file, {start, end}).pipe(response);
}

async function listen() {
  const server = createServer((request, response) => {
    answer(request, response).catch(error => {
      console.error(error.message);
      response.writeHead(500).end(String(error.message));
    });
  });
  await new Promise((done, fail) => server.once('error', fail).listen(Number(values.port), '127.0.0.1', done));
  return server;
}

/** The address of the page with the settings that were given. */
function addressOf(server) {
  const url = new URL(`http://localhost:${server.address().port}/`);
  for (const name of Object.keys(DEFAULTS)) if (values[name] !== undefined) url.searchParams.set(name, values[name]);
  return url;
}

/** Opens the page in Chromium, in software, and prints its report. */
async function tryHeadless(url) {
  const {chromium} = await import('playwright-core');
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-quic'],
  });
  try {
    const page = await browser.newPage();
    page.on('pageerror', error => console.error(error.message));
    url.searchParams.set('start', '1');
    await page.goto(url.href);
    await page.waitForFunction(() => globalThis.outcome !== undefined, undefined, {timeout: 0});
    console.log(await page.evaluate(() => globalThis.outcome));
  } finally {
    await browser.close();
  }
}

if (!existsSync(join(root, 'dist/browser/index.js'))) {
  console.error('Expected a build of the package in dist. Run: npm run build');
  process.exit(1);
}
if (values.headless) values.port = '0';
const server = await listen();
const url = addressOf(server);
if (values.headless) {
  await tryHeadless(url);
  server.close();
} else {
  console.log(`Open ${url} in the browser to measure. Ctrl+C ends this.`);
}

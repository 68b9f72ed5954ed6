/** What a page loads of this package: bytes of the bundle, which are the same on every machine. */
import assert from 'node:assert/strict';
import {readdirSync, readFileSync} from 'node:fs';
import {dirname, join} from 'node:path';
import {test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {measure, ON_DEMAND, USES} from '../../bench/sizes.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Compressed bytes, without TensorFlow.js. */
const LIMITS = {
  applyChatTemplate: 6_000,
  useBackend: 22_500,
  'models in a Worker': 5_000,
  'text generation': 120_000,
  everything: 152_500,
};

for (const [name, limit] of Object.entries(LIMITS)) {
  test(`${name}: at most ${limit / 1000} kB at the start`, async t => {
    const {start} = await measure(USES[name]);
    t.diagnostic(`${start} bytes`);
    assert.ok(start <= limit, `Expected at most ${limit} bytes. Received: ${start}.`);
  });
}

/** What has loaded when a page generates text: the start, the backend with its largest variant, the reader of tfjs' format. */
const GENERATING = 166_000;

test(`text generation: at most ${GENERATING / 1000} kB until the first token`, async t => {
  const {start, onDemand} = await measure(USES['text generation']);
  const parts = ['backend simd', 'WebAssembly, threads', "weights in tfjs' format"];
  const total = parts.reduce((sum, part) => sum + onDemand(ON_DEMAND[part]), start);
  t.diagnostic(`${total} bytes`);
  assert.ok(total <= GENERATING, `Expected at most ${GENERATING} bytes. Received: ${total}.`);
});

test('text generation: at most 15 files at the start', async t => {
  const {files} = await measure(USES['text generation']);
  t.diagnostic(`${files} files`);
  assert.ok(files <= 15, `Expected at most 15 files. Received: ${files}.`);
});

test('text generation loads one backend, one variant of its kernels, and the weights of one format', async () => {
  const {onDemand} = await measure(USES['text generation']);
  const sizes = Object.fromEntries(Object.entries(ON_DEMAND).map(([name, pattern]) => [name, onDemand(pattern)]));
  for (const [name, size] of Object.entries(sizes)) {
    assert.ok(size > 0 && size <= 26_500, `${name}: expected at most 26500 bytes of its own. Received: ${size}.`);
  }
});

test('no script has characters that tokens depend on: a page may read them in another encoding', async () => {
  const {outputFiles} = await build({
    stdin: {contents: USES.everything, resolveDir: root},
    absWorkingDir: root,
    bundle: true,
    minify: true,
    charset: 'utf8',
    splitting: true,
    format: 'esm',
    platform: 'browser',
    external: ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-webgpu'],
    outdir: 'out',
    tsconfigRaw: '{}',
    write: false,
    logLevel: 'error',
  });
  for (const {path, text} of outputFiles) {
    for (const symbol of ['\u2581', '\u2047', '\ufffd']) assert.ok(!text.includes(symbol), `${symbol} in ${path}`);
  }
});

test('package.json names every module with side effects, and no other', () => {
  const {sideEffects} = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const browser = join(root, 'dist', 'browser');
  const files = readdirSync(browser, {recursive: true}).filter(file => file.endsWith('.js'));
  const found = files.flatMap(file =>
    [...readFileSync(join(browser, file), 'utf8').matchAll(/^import "(\.[^"]+)";$/gm)].map(([, path]) =>
      join('dist', 'browser', dirname(file), path),
    ),
  );
  const entries = ['dist/browser/public/register_layers.js'];
  assert.deepEqual(
    sideEffects.filter(path => path.startsWith('./dist/browser/')).sort(),
    [...new Set([...entries, ...found])].map(path => `./${path}`).sort(),
  );
});

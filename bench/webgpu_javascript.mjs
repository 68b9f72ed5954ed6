/**
 * The JavaScript time per token on the backend `webgpu`, which no GPU can reduce, compared with the same WebGPU calls
 * alone, which are its lower bound. In Node this is the processor's time on Dawn's null device, including the work of
 * Dawn and the garbage collector. In Chromium, whose GPU code runs in a separate process, it is the time of the page's
 * thread while it is on a processor. Chromium has no null device: there, commands are sent as usual, but with no
 * workgroups, so that the software adapter has nothing to compute. With `--computes` it has, and occupies the
 * processors and their caches. Models are narrow, with the layers of the real ones. Needs a build: `npm run build`.
 *
 *     node bench/webgpu_javascript.mjs [--shapes 270m,1b] [--tokens 200] [--rounds 5] [--dtype int4] [--chromium]
 *         [--computes]
 */
import {cpus} from 'node:os';
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';
import {narrowModel, useNullDevice} from './webgpu_model.mjs';
import {measureTokens} from './webgpu_tokens.mjs';

const {values} = parseArgs({
  options: {
    shapes: {type: 'string', default: '270m,1b'},
    tokens: {type: 'string'},
    rounds: {type: 'string', default: '5'},
    dtype: {type: 'string', default: 'int4'},
    chromium: {type: 'boolean', default: false},
    computes: {type: 'boolean', default: false},
  },
});
const rounds = Number(values.rounds);
/** Between two growths of the cache; an adapter in software is slow. */
const length = values.computes ? {before: 24, tokens: 40} : {before: 264, tokens: 200};
if (values.tokens) length.tokens = Number(values.tokens);

/** Processor milliseconds, independent of other work on the machine. */
const processorTime = () => {
  const {user, system} = process.cpuUsage();
  return (user + system) / 1000;
};

async function* inNode() {
  await useNullDevice();
  const gemma3 = await import('../dist/node/index.js');
  const tf = await import('@tensorflow/tfjs');
  await gemma3.useBackend('webgpu', {software: true});
  for (const shape of values.shapes.split(',')) {
    const lm = narrowModel(gemma3, shape, values.dtype);
    lm.compile({sampler: 'greedy'});
    const measure = () => measureTokens(lm, tf.backend().device, length, processorTime);
    await measure();
    for (let round = 0; round < rounds; round++) yield {shape, ...(await measure())};
    lm.dispose();
  }
}

async function* inChromium() {
  const {build} = await import('esbuild');
  const {chromium} = await import('playwright-core');
  const {serve} = await import('../test/browser/server.mjs');
  const contents = `
    import * as gemma3 from './dist/browser/index.js';
    import * as tf from '@tensorflow/tfjs';
    import {leaveOutWorkgroups, narrowModel} from './bench/webgpu_model.mjs';
    import {measureTokens} from './bench/webgpu_tokens.mjs';
    let lm;
    globalThis.open = async (shape, dtype, computes) => {
      if (!computes) leaveOutWorkgroups();
      await gemma3.useBackend('webgpu', {software: true});
      lm?.dispose();
      lm = narrowModel(gemma3, shape, dtype);
      lm.compile({sampler: 'greedy'});
    };
    globalThis.measure = length => measureTokens(lm, tf.backend().device, length, () => globalThis.clock());
  `;
  const options = {bundle: true, format: 'esm', platform: 'browser', write: false, tsconfigRaw: '{}'};
  const root = new URL('..', import.meta.url).pathname;
  const bundle = await build({
    ...options,
    stdin: {contents, resolveDir: root},
    external: ['webgpu'],
    logLevel: 'error',
  });
  const server = await serve(root, {
    '/page.js': bundle.outputFiles[0].text,
    '/page.html': '<!doctype html><script type="module" src="page.js"></script>',
  });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-quic'],
  });
  try {
    const page = await browser.newPage();
    const devtools = await page.context().newCDPSession(page);
    await devtools.send('Performance.enable', {timeDomain: 'threadTicks'});
    await page.exposeFunction('clock', async () => {
      const {metrics} = await devtools.send('Performance.getMetrics');
      return 1000 * metrics.find(({name}) => name === 'TaskDuration').value;
    });
    await page.goto(`${server.address.replace('127.0.0.1', 'localhost')}/page.html`);
    await page.waitForFunction(() => globalThis.measure);
    for (const shape of values.shapes.split(',')) {
      await page.evaluate(args => globalThis.open(...args), [shape, values.dtype, values.computes]);
      for (let round = 0; round < rounds; round++) {
        yield {shape, ...(await page.evaluate(given => globalThis.measure(given), length))};
      }
    }
  } finally {
    await browser.close();
    await server.close();
  }
}

const results = new Map();
for await (const {shape, ...result} of values.chromium ? inChromium() : inNode()) {
  if (!results.has(shape)) results.set(shape, []);
  results.get(shape).push(result);
}
const software = `SwiftShader, ${values.computes ? 'which computes' : 'without workgroups'}`;
const where = values.chromium ? `Chromium, ${software}` : `Node ${process.version}, Dawn's null device`;
console.log(`${where}; ${cpus()[0].model}; ${new Date().toISOString().slice(0, 10)}; milliseconds a token`);
const list = (all, key) => all.map(one => one[key].toFixed(3)).join(' ');
for (const [shape, all] of results) {
  const [{dispatches, atOnce}] = all;
  const [token, calls] = ['token', 'calls'].map(key => median(all.map(one => one[key])));
  console.log(
    `${shape}, ${dispatches} dispatches a token, ${atOnce} tokens a submission: ${token.toFixed(3)}, of which the calls ` +
      `alone take ${calls.toFixed(3)} (runs: ${list(all, 'token')}; calls alone: ${list(all, 'calls')})`,
  );
}
process.exit(0);

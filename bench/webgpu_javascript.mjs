/**
 * What JavaScript takes for a token on the backend `webgpu`, however fast the GPU is: in Node the processor's time on
 * Dawn's null device, with all that Dawn and the garbage collector do; in Chromium on the adapter in software, the time of scripts that the browser counts. Models
 * are narrow, with the layers of the real ones. Needs a build: `npm run build`.
 *
 *     node bench/webgpu_javascript.mjs [--shapes 270m,1b] [--tokens 400] [--chromium]
 */
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';
import {narrowModel, useNullDevice} from './webgpu_model.mjs';

const {values} = parseArgs({
  options: {
    shapes: {type: 'string', default: '270m,1b'},
    tokens: {type: 'string', default: '400'},
    dtype: {type: 'string', default: 'int4'},
    chromium: {type: 'boolean', default: false},
  },
});
const tokens = Number(values.tokens);
const ROUNDS = 5;

/** Generates tokens, and returns what `clock` counted for each of those in the second half. */
export async function perToken(lm, tokens, clock) {
  const session = lm.startSession({maxLength: tokens + 8});
  const request = {prompts: [{tokens: [2, 5, 9]}], maxLength: tokens + 3, stopTokenIds: null, sampler: lm.sampler};
  let half = 0;
  let count = 0;
  for await (const {tokens: step} of session.steps(request)) {
    count += step.length;
    if (count === tokens >> 1) half = await clock();
  }
  const time = (await clock()) - half;
  session.dispose();
  return time / (count - (tokens >> 1));
}

/** Milliseconds, whatever else the machine does. */
const processorTime = () => {
  const {user, system} = process.cpuUsage();
  return (user + system) / 1000;
};

async function inNode() {
  await useNullDevice();
  const gemma3 = await import('../dist/node/index.js');
  await gemma3.useBackend('webgpu', {software: true});
  for (const shape of values.shapes.split(',')) {
    const lm = narrowModel(gemma3, shape, values.dtype);
    lm.compile({sampler: 'greedy'});
    const times = [];
    for (let round = 0; round <= ROUNDS; round++) times.push(await perToken(lm, tokens, processorTime));
    console.log(`Node ${process.version}, ${shape}: ${median(times.slice(1)).toFixed(3)} ms a token`);
    lm.dispose();
  }
}

async function inChromium() {
  const {build} = await import('esbuild');
  const {chromium} = await import('playwright-core');
  const {serve} = await import('../test/browser/server.mjs');
  const here = fileURLToPath(new URL('.', import.meta.url));
  const contents = `
    import * as gemma3 from 'tfjs-gemma3';
    import {narrowModel} from './webgpu_model.mjs';
    const perToken = ${perToken};
    let lm;
    globalThis.open = async (shape, dtype) => {
      await gemma3.useBackend('webgpu', {software: true});
      lm?.dispose();
      lm = narrowModel(gemma3, shape, dtype);
      lm.compile({sampler: 'greedy'});
    };
    globalThis.measure = tokens => perToken(lm, tokens, globalThis.scriptTime);`;
  const external = ['webgpu'];
  const bundle = await build({
    ...{stdin: {contents, resolveDir: here}, bundle: true, format: 'esm', platform: 'browser', external},
    ...{write: false, logLevel: 'error', tsconfigRaw: '{}'},
  });
  const server = await serve(here, {
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
    await devtools.send('Performance.enable');
    await page.exposeFunction('scriptTime', async () => {
      const {metrics} = await devtools.send('Performance.getMetrics');
      return 1000 * metrics.find(({name}) => name === 'ScriptDuration').value;
    });
    await page.goto(`${server.address.replace('127.0.0.1', 'localhost')}/page.html`);
    await page.waitForFunction(() => globalThis.measure);
    for (const shape of values.shapes.split(',')) {
      await page.evaluate(([own, dtype]) => globalThis.open(own, dtype), [shape, values.dtype]);
      const times = [];
      for (let round = 0; round <= 2; round++)
        times.push(await page.evaluate(count => globalThis.measure(count), tokens));
      console.log(`Chromium ${browser.version()}, ${shape}: ${median(times.slice(1)).toFixed(3)} ms a token`);
    }
  } finally {
    await browser.close();
    await server.close();
  }
}

await (values.chromium ? inChromium() : inNode());
process.exit(0);

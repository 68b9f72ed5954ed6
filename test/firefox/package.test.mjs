/** The built package in Firefox, bundled as a user would: the same text as in Node, in a page and in a Worker. */
import assert from 'node:assert/strict';
import {build} from 'esbuild';
import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import {serve} from '../browser/server.mjs';
import {QUESTION, root} from '../demo/site.mjs';
import {after, before, newPerson, test, until} from './firefox.mjs';

const PAGE = `
import {describeBackends, Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import {ModelWorker} from 'tfjs-gemma3/worker';
const textOf = async pieces => {
  let text = '';
  for await (const piece of pieces) text += piece;
  return text;
};
globalThis.inPage = async (address, question, wanted) => {
  const backend = await useBackend(wanted);
  const lm = await Gemma3CausalLM.fromPreset(address);
  const text = await textOf(lm.stream(question, {maxLength: 48}));
  lm.dispose();
  return {backend, text, details: (await describeBackends()).find(({name}) => name === backend).details};
};
/** From the address, and from the copy in the private file system. */
globalThis.inWorker = async (script, address, question) => {
  const worker = new ModelWorker(new Worker(script, {type: 'module'}));
  const {received} = await worker.downloadPreset(address);
  const lm = await worker.loadCausalLM(address, {offline: true});
  const text = await textOf(lm.stream(question, {maxLength: 48}));
  const [backend] = (await worker.describeBackends()).filter(({inUse}) => inUse);
  await worker.removeCachedPreset(address);
  worker.terminate();
  return {received, text, backend: backend.name};
};
`;
const WORKER = `import {serve} from 'tfjs-gemma3/worker/host';
serve();
`;

let server;
let person;
let expected;
before(async () => {
  const bundled = async contents => {
    const options = {bundle: true, format: 'esm', platform: 'browser', write: false, logLevel: 'error'};
    return (await build({stdin: {contents, resolveDir: root}, tsconfigRaw: '{}', ...options})).outputFiles[0].text;
  };
  const [page, worker] = await Promise.all([bundled(PAGE), bundled(WORKER)]);
  const html = '<!doctype html><meta charset="utf-8"><script type="module" src="page.js"></script>';
  const files = {
    'page.html': html,
    'page.js': page,
    'worker.js': worker,
    // Safari writes like this before version 26.
    'old_worker.js': `delete FileSystemFileHandle.prototype.createWritable;\n${worker}`,
  };
  server = await serve(root, {
    ...Object.fromEntries(Object.entries(files).map(([name, text]) => [`/${name}`, text])),
    ...Object.fromEntries(Object.entries(files).map(([name, text]) => [`/isolated/${name}`, text])),
  });
  person = await newPerson();
  await useBackend('cpu');
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  expected = await lm.generate(QUESTION, {maxLength: 48, stripPrompt: true});
  lm.dispose();
});
after(async () => {
  await person?.close();
  await server?.close();
});

/* global inPage, inWorker -- of the page */

async function open(path) {
  const page = await person.open(server.address + path);
  await until(page, () => 'inPage' in globalThis);
  return page;
}

for (const [backend, folder, details] of [
  ['cpu', '', /plain JavaScript/],
  ['simd', '', /1 thread .*cannot be shared/],
  ['simd', '/isolated', /WebAssembly with .*SIMD, [1-8] thread/],
]) {
  test(`${backend} on ${folder}/page.html`, async () => {
    const page = await open(`${folder}/page.html`);
    const args = [`${server.address}/presets/gemma3_tiny`, QUESTION, backend];
    const found = await page.evaluate((...given) => inPage(...given), ...args);
    assert.deepEqual([found.backend, found.text], [backend, expected]);
    assert.match(found.details, details);
    await page.close();
  });
}

for (const script of ['worker.js', 'old_worker.js']) {
  test(`in a Worker, from a copy in the private file system: ${script}`, async () => {
    const page = await open('/isolated/page.html');
    const args = [script, `${server.address}/presets/gemma3_tiny`, QUESTION];
    const {received, text, backend} = await page.evaluate((...given) => inWorker(...given), ...args);
    assert.deepEqual([received > 1e6, text, backend], [true, expected, 'simd']);
    await page.close();
  });
}

test('nothing went wrong', () => {
  assert.deepEqual(
    person.problems.filter(problem => !/favicon/.test(problem)),
    [],
  );
});

/**
 * `tfjs-gemma3/worker` in Chromium: a model in a Worker is loaded from what a page has, answers, stops, is tuned, and
 * the page continues after its Worker has died. Needs Chromium at /usr/bin/chromium, or the path in CHROMIUM.
 */
import assert from 'node:assert/strict';
import {dirname, join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';
import {serve} from './server.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';

const page = `
import * as worker from 'tfjs-gemma3/worker';
globalThis.lib = worker;
globalThis.QUESTION = 'What is the capital of France?';
globalThis.FILES = [
  'config.json', 'tokenizer.json', 'preprocessor.json', 'model.weights.h5', 'assets/tokenizer/vocabulary.spm',
];
globalThis.started = [];
globalThis.start = script => {
  const own = new Worker(new URL(script ?? 'worker.js', location.href), {type: 'module'});
  started.push(own);
  return new worker.ModelWorker(own);
};
globalThis.textOf = async pieces => {
  let text = '';
  for await (const piece of pieces) text += piece;
  return text;
};
globalThis.problemOf = promise => promise.then(() => 'none', ({name, reason, message}) => ({name, reason, message}));
`;
const worker = `import {serve} from 'tfjs-gemma3/worker/host';
serve();
// Ends this Worker as a browser would, without a notification.
addEventListener('message', ({data}) => data === 'die' && close());
addEventListener('message', ({data}) => {
  if (data === 'fail') throw new RangeError('of the Worker');
});
`;

let server;
let browser;
let tab;
const problems = [];
before(async () => {
  const bundled = async contents => {
    const bundle = await build({
      stdin: {contents, resolveDir: root},
      bundle: true,
      format: 'esm',
      platform: 'browser',
      write: false,
      logLevel: 'error',
      tsconfigRaw: '{}',
    });
    return bundle.outputFiles[0].text;
  };
  server = await serve(root, {
    '/page.html': '<!doctype html><script type="module" src="/page.js"></script>',
    '/page.js': await bundled(page),
    '/worker.js': await bundled(worker),
    '/old_worker.js': `delete FileSystemFileHandle.prototype.createWritable;\n${await bundled(worker)}`,
  });
  browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  });
  tab = await browser.newPage();
  tab.on('pageerror', error => problems.push(String(error)));
  await tab.goto(`${server.address}/page.html`);
  await tab.waitForFunction(() => 'lib' in globalThis);
});
after(async () => {
  await browser?.close();
  await server?.close();
});

/* global lib, start, started, textOf, problemOf, QUESTION, FILES -- of the page */

test('loads from an address of the page, streams, says how it ended and where it runs', async () => {
  const found = await tab.evaluate(async () => {
    globalThis.worker = start();
    const files = new Set();
    const onProgress = ({file, loaded, total}) => files.add(file).add(loaded === total ? 'all' : 'some');
    globalThis.lm = await worker.loadCausalLM('./presets/gemma3_tiny', {onProgress, dtype: 'int8'});
    const answer = lm.stream([{role: 'user', content: QUESTION}]);
    const text = await textOf(answer);
    const [inUse] = (await worker.describeBackends()).filter(backend => backend.inUse);
    const {numTensors} = await worker.memory();
    return {files: [...files], text, ending: answer.ending, dtype: lm.info.dtype, backend: inUse.name, numTensors};
  });
  assert.deepEqual(
    {...found, numTensors: found.numTensors > 10},
    {
      files: found.files.filter(file => ['model.weights.h5', 'some', 'all'].includes(file)),
      text: 'The capital of France is Paris.',
      ending: {finishReason: 'stop', usage: {promptTokens: 16, newTokens: found.ending.usage.newTokens}},
      dtype: 'int8',
      backend: 'simd',
      numTensors: true,
    },
  );
  assert.ok(found.files.includes('all'));
});

test('loads from files that a person chose, and from a folder of the private file system', async () => {
  const texts = await tab.evaluate(async () => {
    const blobs = await Promise.all(
      FILES.map(async path => [path, await (await fetch(`/presets/gemma3_tiny/${path}`)).blob()]),
    );
    const chosen = blobs.map(([path, blob]) =>
      Object.defineProperty(new File([blob], path.split('/').at(-1)), 'webkitRelativePath', {value: `tiny/${path}`}),
    );
    const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('tiny', {create: true});
    for (const [path, blob] of blobs) {
      const names = path.split('/');
      let parent = folder;
      for (const name of names.slice(0, -1)) parent = await parent.getDirectoryHandle(name, {create: true});
      const stream = await (await parent.getFileHandle(names.at(-1), {create: true})).createWritable();
      await stream.write(blob);
      await stream.close();
    }
    const texts = [];
    for (const source of [chosen, Object.fromEntries(blobs), folder]) {
      const model = await worker.loadCausalLM(source);
      texts.push(await model.generate([{role: 'user', content: QUESTION}]));
      await model.dispose();
    }
    return texts;
  });
  assert.deepEqual(texts, Array(3).fill('The capital of France is Paris.'));
});

test('keeps a copy where files have no createWritable, as in Safari before version 26', async () => {
  const found = await tab.evaluate(async () => {
    const old = start('old_worker.js');
    const address = new URL('presets/gemma3_tiny', location.href).href;
    const {received} = await old.downloadPreset(address);
    const model = await old.loadCausalLM(address, {offline: true});
    const text = await model.generate([{role: 'user', content: QUESTION}]);
    const again = await old.downloadPreset(address);
    const kept = (await old.cachedPresets()).map(({name, complete}) => [name === address, complete]);
    await old.removeCachedPreset(address);
    const left = await old.cachedPresets();
    old.terminate();
    return {received: received > 1e6, again: again.received, text, kept, left};
  });
  const text = 'The capital of France is Paris.';
  assert.deepEqual(found, {received: true, again: 0, text, kept: [[true, true]], left: []});
});

test('stops, and the conversation goes on', async () => {
  const {stopped, history, next, tokens} = await tab.evaluate(async () => {
    const chat = await lm.startChat({maxLength: 256});
    const stop = new AbortController();
    let stopped = '';
    try {
      for await (const piece of chat.stream(QUESTION, {signal: stop.signal})) {
        stopped += piece;
        stop.abort();
      }
    } catch (error) {
      if (error !== stop.signal.reason) throw error;
    }
    const history = await chat.history();
    const next = await chat.send(QUESTION);
    const tokens = [chat.length, chat.maxLength];
    await chat.dispose();
    return {stopped, history, next, tokens};
  });
  assert.deepEqual(history[1], {role: 'assistant', content: stopped});
  assert.ok(stopped.length > 0 && next.length > 0 && tokens[0] > 20 && tokens[1] === 256);
});

test('tunes, is paused and tried meanwhile, and another copy takes the adapter', async () => {
  const found = await tab.evaluate(async () => {
    const tuned = await lm.clone();
    await tuned.enableLora(4, {seed: 1, targetLayerNames: [/attention\/(query|value)$/]});
    await tuned.compile({optimizer: {className: 'Adam', learningRate: 0.05}});
    const losses = [];
    const data = {prompts: ['The sea is', 'The sky is'], responses: [' blue.', ' blue.']};
    const callbacks = {onBatchEnd: (_, {loss}) => losses.push(loss)};
    const run = tuned.fit(data, {epochs: 20, seed: 1, callbacks});
    await run.pause();
    const resting = losses.length;
    await tuned.generate('The sea is', {maxNewTokens: 2});
    const still = losses.length === resting;
    run.resume();
    const {history} = await run;
    const answerOf = model => model.generate('The sea is', {maxLength: 24});
    const copy = await lm.clone();
    await copy.loadLora(new File([await tuned.saveLora()], 'blue.lora.h5'));
    const answers = await Promise.all([lm, tuned, copy].map(answerOf));
    const peft = Object.keys(await tuned.exportPeft()).sort();
    await Promise.all([tuned, copy].map(model => model.dispose()));
    return {still, epochs: history.loss.length, falls: losses.at(-1) < losses[0], answers, peft};
  });
  assert.deepEqual(found, {
    still: true,
    epochs: 20,
    falls: true,
    answers: [found.answers[0], 'The sea is blue.', 'The sea is blue.'],
    peft: ['adapter_config.json', 'adapter_model.safetensors'],
  });
  assert.notEqual(found.answers[0], found.answers[1]);
});

test('errors keep their class', async () => {
  const found = await tab.evaluate(async () => {
    const error = await lm.generate(QUESTION, {maxLength: 3}).catch(thrown => thrown);
    const missing = await problemOf(worker.loadCausalLM('/nowhere'));
    const element = await problemOf(lm.generate({prompts: '<start_of_image>', images: new Image()}));
    return {full: error instanceof lib.ContextFullError && error instanceof lib.ValueError, missing, element};
  });
  assert.equal(found.full, true);
  assert.equal(found.missing.name, 'ValueError');
  assert.match(found.element.message, /Expected arguments that a Worker can receive.*HTMLImageElement/);
});

const ENDS = {
  terminate: ['terminated', /one that was terminated/],
  'a Worker that dies without a word': ['lost', /one that the browser ended/],
  'an error that nobody catches': ['failed', /one that threw: .*of the Worker/],
};
for (const [name, [reason, message]] of Object.entries(ENDS)) {
  test(`${name}: what is pending rejects, and another Worker goes on`, async () => {
    const {pending, later, text} = await tab.evaluate(async how => {
      const mortal = start();
      const own = started.at(-1);
      const model = await mortal.loadCausalLM('/presets/gemma3_tiny');
      const stream = model.stream('The capital of', {maxNewTokens: 5000, stopTokenIds: null});
      await stream.next();
      const pending = problemOf(textOf(stream));
      if (how === 'terminate') mortal.terminate();
      else own.postMessage(how.startsWith('a Worker') ? 'die' : 'fail');
      const result = await pending;
      const later = await problemOf(model.tokenize('a'));
      await mortal.ended;
      const next = start();
      const again = await next.loadCausalLM('/presets/gemma3_tiny');
      const text = await again.generate([{role: 'user', content: QUESTION}]);
      next.terminate();
      return {pending: result, later, text};
    }, name);
    for (const problem of [pending, later]) {
      assert.deepEqual([problem.name, problem.reason], ['WorkerEndedError', reason]);
      assert.match(problem.message, message);
    }
    assert.equal(text, 'The capital of France is Paris.');
  });
}

test('a script that is not there', async () => {
  const problem = await tab.evaluate(() => problemOf(start('nowhere.js').loadCausalLM('gemma3_tiny')));
  assert.deepEqual([problem.name, problem.reason], ['WorkerEndedError', 'failed']);
  assert.match(problem.message, /one whose script could not be loaded/);
  assert.deepEqual(
    problems,
    ['RangeError: of the Worker'].filter(() => problems.length),
  );
});

/** The package as npm packs it, installed in an empty folder. Needs the npm registry: `npm run test:package`. */
import assert from 'node:assert/strict';
import {spawn} from 'node:child_process';
import {once} from 'node:events';
import {cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {createRequire} from 'node:module';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {after, before, describe, test} from 'node:test';
import {setTimeout} from 'node:timers/promises';
import {fileURLToPath} from 'node:url';
import {install, run} from './install.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const {version} = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const QUESTION = 'What is the capital of France?';

const INTENDED = [
  /^(README|FEATURES|CHANGELOG)\.md$|^LICENSE$|^package\.json$/,
  /^dist\/cli\.js(\.map)?$/,
  /^dist\/node\/[\w-]+\.(js|cjs)(\.map)?$|^dist\/node\/[\w-]+\.d\.(ts|cts)$/,
  /^dist\/browser\/[\w/]+\.js(\.map)?$|^dist\/browser\/((public|worker)\/)?[\w-]+\.d\.ts$/,
  /^dist\/page\/[\w-]+\.js(\.map)?$/,
  /^dist\/presets\/gemma3_tiny(_files|_blobs)?\.(js|cjs|d\.ts|d\.cts)$/,
  /^presets\/gemma3_presets\.json$/,
  /^presets\/gemma3_tiny\/[\w./]+\.(json|h5|spm)$/,
  /^docs\/([a-z_]+|README)\.md$/,
  /^docs\/screenshots\/demo_(light|dark|phone)\.png$/,
];
const NEEDED = ['dist/cli.js', 'dist/node/index.js', 'dist/node/index.cjs', 'dist/node/index.d.ts', 'LICENSE'].concat(
  ['dist/node/index.d.cts', 'dist/browser/index.js', 'dist/browser/index.d.ts', 'presets/gemma3_presets.json'],
  ['dist/page/tfjs-gemma3.js', 'dist/presets/gemma3_tiny.js', 'dist/node/layers.js', 'dist/node/layers.d.ts'],
  ['dist/node/worker.js', 'dist/node/worker_host.cjs', 'dist/browser/worker/index.js', 'dist/browser/worker/host.d.ts'],
  ['presets/gemma3_tiny/config.json', 'presets/gemma3_tiny/model.weights.h5', 'README.md'],
);

/** Stdout of a program that must succeed and write nothing to stderr. */
function output(command, args, options) {
  const {status, stdout, stderr} = run(command, args, options);
  assert.deepEqual({status, stderr}, {status: 0, stderr: ''}, stdout);
  return stdout;
}

describe('the package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tfjs-gemma3-package-'));
  let packed;

  before(() => {
    packed = install(folder);
  });
  after(() => rmSync(folder, {recursive: true}));

  /** Runs a program in the consumer's folder. */
  const program = (name, lines) => {
    writeFileSync(join(folder, name), lines.join('\n'));
    return output(process.execPath, [name], {cwd: folder});
  };

  test('has what is needed and nothing else', t => {
    const files = packed.files.map(({path}) => path);
    t.diagnostic(`${files.length} files, ${(packed.size / 1e6).toFixed(2)} MB packed`);
    t.diagnostic(`${(packed.unpackedSize / 1e6).toFixed(2)} MB unpacked`);
    assert.deepEqual(
      files.filter(path => !INTENDED.some(pattern => pattern.test(path))),
      [],
    );
    assert.deepEqual(
      NEEDED.filter(path => !files.includes(path)),
      [],
    );
    assert.ok(packed.size < 10.5e6);
  });

  // === As a library ===

  const use = [
    `const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');`,
    `console.log(await lm.generate('${QUESTION}', {maxLength: 32}));`,
    `lm.dispose();`,
  ];

  test('can be imported', () => {
    const text = program('use.mjs', [`import {Gemma3CausalLM} from 'tfjs-gemma3';`, ...use]);
    assert.match(text, /Paris/);
  });

  test('can be required', () => {
    // Twice: an object of a class must not change what the next one needs.
    const lines = [
      `const {Gemma3CausalLM} = require('tfjs-gemma3');`,
      `(async () => {`,
      '{',
      ...use,
      '}',
      ...use,
      `})();`,
    ];
    assert.match(program('use.cjs', lines), /Paris[^]*Paris/);
    const built = join(folder, 'node_modules/tfjs-gemma3/dist/node');
    const changing = readdirSync(built).filter(
      name => name.endsWith('.cjs') && /\bthis\.[\w$]+ = exports\./.test(readFileSync(join(built, name), 'utf8')),
    );
    assert.deepEqual(changing, []);
  });

  test('can be imported and required in one process', () => {
    const text = program('both.mjs', [
      `import {createRequire} from 'node:module';`,
      `import * as imported from 'tfjs-gemma3';`,
      `const required = createRequire(import.meta.url)('tfjs-gemma3');`,
      `for (const {Gemma3CausalLM} of [imported, required]) {`,
      ...use,
      `}`,
    ]);
    const [first, second] = text.trimEnd().split('\n');
    assert.match(first, /Paris/);
    assert.equal(second, first);
  });

  test('two copies in one process are named in errors, where they cannot work together', () => {
    const text = program('copies.mjs', [
      `import {createRequire} from 'node:module';`,
      `import * as imported from 'tfjs-gemma3';`,
      `const required = createRequire(import.meta.url)('tfjs-gemma3');`,
      `await imported.useBackend('simd');`,
      `await required.useBackend('simd');`,
      `const {backbone, preprocessor} = await required.Gemma3CausalLM.fromPreset('gemma3_tiny');`,
      `const fail = run => Promise.resolve().then(run).then(() => 'works', ({message}) => message);`,
      `const errors = [`,
      `  await fail(() => new imported.Gemma3CausalLM({backbone, preprocessor: null})),`,
      `  await fail(() => new imported.Gemma3CausalLMPreprocessor({tokenizer: preprocessor.tokenizer})),`,
      `  await fail(() => required.Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int8'})),`,
      `];`,
      `console.log(JSON.stringify(errors));`,
    ]);
    for (const message of JSON.parse(text))
      assert.match(message, /another copy.*`import` or everywhere with `require`/);
  });

  test('exports the same names both ways', () => {
    const text = program('names.mjs', [
      `import {createRequire} from 'node:module';`,
      `import * as imported from 'tfjs-gemma3';`,
      `const required = createRequire(import.meta.url)('tfjs-gemma3');`,
      `console.log(JSON.stringify([imported, required].map(all => Object.keys(all).sort())));`,
    ]);
    const [imported, required] = JSON.parse(text);
    assert.deepEqual(
      imported.filter(name => name !== 'default' && name !== 'module.exports'),
      required,
    );
  });

  test('classes have their public names, also in stacks', () => {
    const text = program('classes.mjs', [
      `import {createRequire} from 'node:module';`,
      `import * as imported from 'tfjs-gemma3';`,
      `const required = createRequire(import.meta.url)('tfjs-gemma3');`,
      `const isClass = value => typeof value === 'function' && /^class\\b/.test(value);`,
      `const spaces = ['layers', 'weights', 'files', 'samplers', 'optimizers', 'losses'];`,
      `const report = all => {`,
      `  const named = [all, ...spaces.map(name => all[name])].flatMap(Object.entries).filter(([, value]) => isClass(value));`,
      `  const sizes = {vocabularySize: 8, imageSize: null, numLayers: 1, numQueryHeads: 1, numKeyValueHeads: 1};`,
      `  const backbone = new all.Gemma3Backbone({...sizes, hiddenDim: 8, intermediateDim: 8, headDim: 4});`,
      `  let stack;`,
      `  try { backbone.predict({}); } catch (error) { stack = error.stack; }`,
      `  return {count: named.length, wrong: named.filter(([name, {name: own}]) => name !== own).map(([name]) => name), stack};`,
      `};`,
      `console.log(JSON.stringify([imported, required].map(report)));`,
    ]);
    for (const {count, wrong, stack} of JSON.parse(text)) {
      assert.ok(count > 50, `${count} classes`);
      assert.deepEqual(wrong, []);
      assert.match(stack, /^ValueError: Expected inputs .*at Gemma3Backbone\.predict /s);
    }
  });

  test('exports its presets', () => {
    const text = program('presets.cjs', [
      `console.log(Object.keys(require('tfjs-gemma3/presets/gemma3_presets.json')).length);`,
      `console.log(require('tfjs-gemma3/package.json').version);`,
    ]);
    assert.match(text, new RegExp(`^\\d+\\n${version.replaceAll('.', '\\.')}\\n$`));
  });

  test('imports its entries for bundles, which change nothing in Node', () => {
    const text = program('entries.mjs', [
      `import {createRequire} from 'node:module';`,
      `import {Gemma3CausalLM} from 'tfjs-gemma3';`,
      `import 'tfjs-gemma3/layers';`,
      `import 'tfjs-gemma3/presets/gemma3_tiny';`,
      `const require = createRequire(import.meta.url);`,
      `require('tfjs-gemma3/layers');`,
      `require('tfjs-gemma3/presets/gemma3_tiny');`,
      ...use,
    ]);
    assert.match(text, /Paris/);
  });

  test("a Worker's errors and those of the models have the same classes", () => {
    const text = program('classes.mjs', [
      `import {createRequire} from 'node:module';`,
      `import * as models from 'tfjs-gemma3';`,
      `import * as worker from 'tfjs-gemma3/worker';`,
      `const require = createRequire(import.meta.url);`,
      `const same = (a, b) => ['ValueError', 'ContextFullError', 'OutOfMemoryError'].every(name => a[name] === b[name]);`,
      `console.log(same(models, worker), same(require('tfjs-gemma3'), require('tfjs-gemma3/worker')));`,
      `console.log(typeof require('tfjs-gemma3/worker/host').serve);`,
    ]);
    assert.equal(text, 'true true\nfunction\n');
  });

  // === Types ===

  const consumer = [
    `import {Gemma3Backbone, Gemma3CausalLM, type Gemma3BackboneArgs, samplers, useBackend} from 'tfjs-gemma3';`,
    `import 'tfjs-gemma3/layers';`,
    `import 'tfjs-gemma3/presets/gemma3_tiny';`,
    `import {ModelWorker} from 'tfjs-gemma3/worker';`,
    `import {serve} from 'tfjs-gemma3/worker/host';`,
    `export const inWorker: () => void = () => serve();`,
    `export const remote = (worker: ModelWorker) => worker.loadCausalLM('gemma3_tiny', {dtype: 'int8'});`,
    `// @ts-expect-error: types of the Worker are not any`,
    `export const wrong = (worker: ModelWorker) => worker.loadCausalLM('gemma3_tiny', {dtype: 'int3'});`,
    `const args: Gemma3BackboneArgs = {vocabularySize: 8, imageSize: null, numLayers: 1, numQueryHeads: 1,`,
    `  numKeyValueHeads: 1, hiddenDim: 8, intermediateDim: 8, headDim: 4};`,
    `export const count: number = new Gemma3Backbone(args).countParams();`,
    `export async function answer(): Promise<string> {`,
    `  await useBackend('cpu');`,
    `  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');`,
    `  lm.compile({sampler: new samplers.TopKSampler({k: 3, seed: 1})});`,
    `  // @ts-expect-error: a number is not a prompt`,
    `  await lm.generate(1);`,
    `  // @ts-expect-error: types are not any`,
    `  lm.noSuchMethod();`,
    `  return lm.generate('a', {maxLength: 4});`,
    `}`,
  ].join('\n');

  /** How programs find types. Only with "bundler" they get those of the browser's build. */
  const resolutions = [
    {module: 'node16', moduleResolution: 'node16', files: ['types.mts', 'types.cts']},
    {module: 'nodenext', moduleResolution: 'nodenext', files: ['types.mts', 'types.cts']},
    {module: 'esnext', moduleResolution: 'bundler', files: ['types.mts']},
  ];

  for (const {module, moduleResolution, files} of resolutions) {
    test(`has types without errors of their own: ${moduleResolution}`, () => {
      for (const file of files) writeFileSync(join(folder, file), consumer);
      const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc');
      const compilerOptions = {
        module,
        moduleResolution,
        target: 'es2022',
        strict: true,
        skipLibCheck: false,
        noEmit: true,
        types: [],
      };
      writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({compilerOptions, files}));
      const {stdout} = run(process.execPath, [compiler], {cwd: folder});
      // The declarations of tfjs contain errors: leave those out.
      const ours = stdout
        .split('\n')
        .filter(line => /^types\.|^node_modules\/tfjs-gemma3\/|^(ts\S*: )?error/.test(line));
      assert.deepEqual(ours, []);
    });
  }

  // === As a command ===

  test('answers on the command line', () => {
    const text = output('npx', ['--no', '--', 'gemma3', 'generate', QUESTION], {cwd: folder});
    assert.match(text, /^What is the capital of France\? .*Paris.*\n$/);
  });

  test('answers about a picture', () => {
    const picture = join(root, 'test/fixtures/tiny_preset/pictures/red_circle.png');
    const args = ['--no', '--', 'gemma3', 'generate', '--image', picture, 'What is in the picture?'];
    assert.match(output('npx', args, {cwd: folder}), /What is in the picture\? A red circle\.\n$/);
  });

  test('prints one object', () => {
    const text = output('npx', ['--no', '--', 'gemma3', 'generate', QUESTION, '--json'], {cwd: folder});
    assert.match(JSON.parse(text).text, /Paris/);
  });

  test('has other commands', () => {
    const gemma3 = (...args) => output('npx', ['--no', '--', 'gemma3', ...args], {cwd: folder});
    assert.equal(gemma3('--version'), `${version}\n`);
    assert.match(gemma3('presets'), /^NAME .*\ngemma3_tiny /);
    assert.match(gemma3('inspect', 'gemma3_tiny'), /Memory for the weights/);
  });

  test('converts to other formats, which it reads', () => {
    const gemma3 = (...args) => output('npx', ['--no', '--', 'gemma3', ...args], {cwd: folder});
    gemma3('convert', 'gemma3_tiny', 'tiny.gguf');
    gemma3('convert', 'tiny.gguf', 'huggingface', '--to', 'huggingface');
    gemma3('convert', 'huggingface', 'keras', '--to', 'keras', '--dtype', 'float32');
    for (const preset of ['./tiny.gguf', './huggingface', './keras']) {
      assert.match(gemma3('generate', '--preset', preset, QUESTION), /Paris/, preset);
    }
  });

  test('loads what transformers saved, with its numbers', () => {
    cpSync(join(root, 'test/package/load_transformers.mjs'), join(folder, 'load_transformers.mjs'));
    const printed = output(process.execPath, ['load_transformers.mjs', join(root, 'test/fixtures/huggingface')], {
      cwd: folder,
    });
    const lines = printed.trim().split('\n');
    assert.equal(lines.length, 7);
    for (const line of lines) {
      const [name, , ...distances] = line.split(' ');
      assert.ok(distances.length > 0 && distances.every(distance => Number(distance) < 1e-4), `${name}: ${line}`);
    }
  });

  test('trains, and answers with what it learnt', () => {
    const example = prompt => JSON.stringify({prompt: `${prompt} is`, response: ' blue.'});
    writeFileSync(join(folder, 'colors.jsonl'), ['The sea', 'The sky'].map(example).join('\n'));
    const gemma3 = (...args) => run('npx', ['--no', '--', 'gemma3', ...args], {cwd: folder});
    const size = ['--epochs', '20', '--learning-rate', '0.05', '--max-length', '40'];
    const trained = gemma3('finetune', '--data', 'colors.jsonl', '--output', 'runs/colors.lora.h5', ...size);
    assert.equal(trained.status, 0, trained.stderr);
    assert.match(trained.stdout, /^runs\/colors\.lora\.h5: loss [\d.]+, 20 steps in \d+ s; report in /);
    const answer = gemma3('generate', '--lora', 'runs/colors.lora.h5', '--max-length', '24', 'The sea is');
    assert.equal(answer.stdout, 'The sea is blue.\n');
  });

  test('answers in a worker thread, with the program of the guide', () => {
    const guide = readFileSync(join(root, 'docs/worker.md'), 'utf8');
    const programs = [...guide.matchAll(/```js\n\/\/ (\w+\.mjs)\n([^]*?)```/g)];
    assert.deepEqual(
      programs.map(([, name]) => name),
      ['main.mjs', 'worker.mjs'],
    );
    for (const [, name, code] of programs) writeFileSync(join(folder, name), code);
    assert.match(output(process.execPath, ['main.mjs'], {cwd: folder}), /The capital of France is Paris\./);
  });

  test('exits with the documented codes', () => {
    const code = (args, options) => run('npx', ['--no', '--', 'gemma3', ...args], {cwd: folder, ...options});
    const failed = code(['generate', '--preset', './nothing', 'a']);
    assert.deepEqual({status: failed.status, stdout: failed.stdout}, {status: 1, stdout: ''});
    assert.match(failed.stderr, /^error: [^\n]*\n$/);
    assert.equal(code(['generate', '--max-length', 'abc', 'a']).status, 2);
  });

  test('saves the state of training on SIGTERM, and ends a measurement on Ctrl-C', async () => {
    const runs = mkdtempSync(join(folder, 'runs-'));
    writeFileSync(join(runs, 'data.jsonl'), JSON.stringify({prompt: 'The sea is', response: ' blue.'}));
    const cli = join(folder, 'node_modules/tfjs-gemma3/dist/cli.js');
    /** Starts the command, sends a signal once it `isBusy`, and returns its exit code. */
    const signalled = async (args, signal, isBusy) => {
      const child = spawn(process.execPath, [cli, ...args], {cwd: runs, stdio: 'ignore'});
      const exited = once(child, 'exit');
      while (!isBusy() && child.exitCode === null) await setTimeout(20);
      child.kill(signal);
      return (await exited)[0];
    };
    const train = ['finetune', '--data', 'data.jsonl', '--output', 'a.lora.h5', '--epochs', '100000'];
    const checkpoint = join(runs, 'a.checkpoint');
    assert.equal(await signalled(train, 'SIGTERM', () => existsSync(checkpoint)), 143);
    const files = ['a.checkpoint', 'a.lora.h5', 'a.loss.svg', 'a.report.json', 'data.jsonl'];
    assert.deepEqual(readdirSync(runs).sort(), files);
    const start = Date.now();
    const measure = ['bench', '--backend', 'cpu', '--runs', '1000000'];
    assert.equal(await signalled(measure, 'SIGINT', () => Date.now() - start > 4000), 130);
  });

  test('exits silently when its reader closes', () => {
    const script = 'npx --no -- gemma3 inspect gemma3_27b --json --variables | head -n 1; echo "${PIPESTATUS[0]}"';
    assert.equal(output('bash', ['-c', script], {cwd: folder}), '{\n0\n');
  });
});

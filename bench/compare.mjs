/**
 * Compares this package with node-llama-cpp, with KerasHub on JAX, or with another version of itself, on the same
 * weights of a real Gemma 3. Both sides alternate in one run, each in its own processes. Prints Markdown.
 *
 *     node bench/compare.mjs --help
 */
import {execFileSync, spawn} from 'node:child_process';
import {createReadStream, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync} from 'node:fs';
import {cpus, loadavg, tmpdir} from 'node:os';
import {join, relative, resolve} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PEERS = join(ROOT, 'bench/peers');
const PYTHON = process.env.PYTHON || 'python3';
const ONNX_PYTHON = process.env.ONNX_PYTHON || PYTHON;

const HELP = `node bench/compare.mjs [options]

  --preset DIR      a Keras Gemma 3 text preset           (models/gemma3_270m)
  --dtypes LIST     any of float32, bfloat16, int8, int4  (all that a peer has; llama.cpp without float32)
  --keras           also KerasHub on JAX: float32, bfloat16, and int4 against its bfloat16;
                    PYTHON names an interpreter with both packages
  --transformers    also transformers.js: int4, whose model ONNX_PYTHON (PYTHON) makes; see bench/README.md
  --no-llama        without node-llama-cpp
  --before DIR      also another checkout of this package, which must be built
  --threads N       threads of each side                  (2)
  --rounds N        processes of each side                (3)
  --runs N          measured runs in each process         (3)
  --tokens N        new tokens of a decode run            (128)
  --prefill N       tokens of a prefill run               (512)
  --json FILE       also write every number to this file

PYTHON (python3) writes the GGUF files: it needs gguf, h5py and sentencepiece.`;

/** The names of the dtypes in GGUF. */
const GGUF_TYPES = {float32: 'f32', bfloat16: 'bf16', int8: 'q8_0', int4: 'q4_0'};
/** Token ids of real text, so that equal greedy tokens are meaningful. The first one is BOS. */
const PROMPT = [2, 818, 4083, 529, 506, 13379, 3958, 12502, 1440, 1680, 506, 1171, 64304, 236761, 799, 506];

class Failure extends Error {}

const say = text => process.stderr.write(`${text}\n`);

function readOptions() {
  const {values} = parseArgs({
    options: {
      preset: {type: 'string', default: join(ROOT, 'models/gemma3_270m')},
      dtypes: {type: 'string'},
      keras: {type: 'boolean', default: false},
      transformers: {type: 'boolean', default: false},
      'no-llama': {type: 'boolean', default: false},
      before: {type: 'string'},
      threads: {type: 'string', default: '2'},
      rounds: {type: 'string', default: '3'},
      runs: {type: 'string', default: '3'},
      tokens: {type: 'string', default: '128'},
      prefill: {type: 'string', default: '512'},
      json: {type: 'string'},
      help: {type: 'boolean', default: false},
    },
  });
  if (values.help) {
    console.log(HELP);
    process.exit(0);
  }
  for (const name of ['threads', 'rounds', 'runs', 'tokens', 'prefill']) {
    if (!/^[1-9]\d*$/.test(values[name]))
      throw new Failure(`Expected --${name} to be a whole number above 0. Received: ${values[name]}.`);
    values[name] = Number(values[name]);
  }
  values.preset = values.preset.replace(/\/+$/, '');
  values.dtypes = values.dtypes?.split(',');
  const unknown = values.dtypes?.find(dtype => !(dtype in GGUF_TYPES));
  if (unknown !== undefined)
    throw new Failure(`Expected --dtypes to list any of ${Object.keys(GGUF_TYPES).join(', ')}. Received: ${unknown}.`);
  if (!existsSync(join(values.preset, 'model.weights.h5'))) {
    throw new Failure(
      `Expected a preset with model.weights.h5 in ${values.preset}. Run npm run fetch:270m to create one.`,
    );
  }
  for (const checkout of [ROOT, values.before].filter(Boolean)) {
    if (existsSync(join(checkout, 'dist/node/index.js'))) continue;
    throw new Failure(`Expected a built package in ${checkout}. Run npm run build there.`);
  }
  return values;
}

/** Runs a command and resolves to its stdout. */
function run(command, args, cwd = ROOT) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {cwd, stdio: ['ignore', 'pipe', 'pipe']});
    let out = '';
    let err = '';
    child.stdout.on('data', data => (out += data));
    child.stderr.on('data', data => (err += data));
    child.on('error', error => reject(new Failure(`Cannot run ${command}: ${error.message}`)));
    child.on('close', (code, signal) => {
      if (code === 0) resolve(out);
      else reject(new Failure(`${command} ${args[0]} exited with ${signal ?? code}.\n${err}${out}`.trimEnd()));
    });
  });
}

/** The version of a package that this compares with. */
const versionOf = name => JSON.parse(readFileSync(join(PEERS, 'package.json'), 'utf8')).dependencies[name];

/** True if a package of bench/peers is installed in this version. */
function isInstalled(name, version) {
  const path = join(PEERS, 'node_modules', name, 'package.json');
  return existsSync(path) && JSON.parse(readFileSync(path, 'utf8')).version === version;
}

/** Installs all packages of bench/peers and these, without scripts and optional packages: those are for GPUs. */
async function install(...names) {
  say(`installing ${names.join(' and ')} in ${relative(process.cwd(), PEERS) || '.'}`);
  const flags = ['--no-save', '--no-package-lock', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund'];
  await run('npm', ['install', ...flags, ...names], PEERS);
}

/** The binary of node-llama-cpp for this machine: a package of its own. */
function llamaBinary() {
  const os = {darwin: 'mac', win32: 'win'}[process.platform] ?? process.platform;
  const cpu = process.arch === 'arm' ? 'armv7l' : process.arch;
  return `@node-llama-cpp/${os}-${cpu}${os === 'mac' && cpu === 'arm64' ? '-metal' : ''}`;
}

async function installLlama() {
  const version = versionOf('node-llama-cpp');
  const binary = llamaBinary();
  if (!isInstalled('node-llama-cpp', version) || !isInstalled(binary, version)) await install(`${binary}@${version}`);
  return version;
}

/**
 * The binaries of onnxruntime-node are in its package; its scripts would only fetch those for GPUs. transformers.js does
 * not start without sharp, whose binaries are optional packages.
 */
async function installTransformers() {
  const name = '@huggingface/transformers';
  const version = versionOf(name);
  // npm removes packages that a call does not name.
  const llama = `${llamaBinary()}@${versionOf('node-llama-cpp')}`;
  if (!isInstalled(name, version)) await install(llama);
  const {optionalDependencies} = JSON.parse(readFileSync(join(PEERS, 'node_modules/sharp/package.json'), 'utf8'));
  const machine = `-${process.platform}-${process.arch}`;
  const binaries = Object.entries(optionalDependencies).filter(([binary]) => binary.endsWith(machine));
  if (!binaries.every(([binary, version]) => isInstalled(binary, version)))
    await install(llama, ...binaries.map(([binary, version]) => `${binary}@${version}`));
  return version;
}

/** Our own Hugging Face folder of the preset, made to an int4 model by ONNX Runtime's builder. */
async function makeOnnx(preset) {
  const out = `${preset}.onnx_q4`;
  const config = join(out, 'config.json');
  const weights = join(preset, 'model.weights.h5');
  if (existsSync(config) && statSync(config).mtimeMs >= statSync(weights).mtimeMs) return out;
  say(`writing ${relative(process.cwd(), out)}`);
  rmSync(out, {recursive: true, force: true});
  const folder = mkdtempSync(join(tmpdir(), 'huggingface-'));
  try {
    await run(process.execPath, [join(ROOT, 'dist/cli.js'), 'convert', preset, folder, '--to', 'huggingface']);
    await run(ONNX_PYTHON, [join(PEERS, 'onnx_model.py'), folder, out]);
  } finally {
    rmSync(folder, {recursive: true});
  }
  return out;
}

async function makeGguf(preset, dtype) {
  const type = GGUF_TYPES[dtype];
  const path = `${preset}.${type}.gguf`;
  if (!existsSync(path) || statSync(path).mtimeMs < statSync(join(preset, 'model.weights.h5')).mtimeMs) {
    say(`writing ${relative(process.cwd(), path)}`);
    await run(PYTHON, [join(ROOT, 'scripts/make_gguf.py'), preset, path, '--type', type]);
  }
  return path;
}

/** Reads a file into the system's cache without keeping it in this process. */
async function warm(path) {
  for await (const chunk of createReadStream(path, {highWaterMark: 1 << 20})) void chunk;
}

async function measure({command, script, weights}, options) {
  await warm(weights);
  const out = await run(command, [resolve(PEERS, script), JSON.stringify({...options, startedAt: Date.now()})]);
  return JSON.parse(out.trim().split('\n').at(-1));
}

/**
 * Both sides alternately → {ours, theirs} with one result per round. Both are empty if this package does not support
 * the dtype.
 */
async function compare({dtype, other, name}, options) {
  const {preset, threads, rounds, runs, tokens, prefill} = options;
  const size = JSON.parse(readFileSync(join(preset, 'config.json'), 'utf8')).config.vocabulary_size;
  const prompt = PROMPT.map(id => id % size);
  const longPrompt = Array.from({length: prefill}, (_, i) => (2 + 37 * i) % size);
  const shared = {preset, dtype, threads, runs, tokens, prompt, longPrompt};
  const us = {command: process.execPath, script: 'ours.mjs', weights: join(preset, 'model.weights.h5')};
  const ours = [];
  const theirs = [];
  for (let round = 1; round <= rounds; round++) {
    say(`${dtype} against ${name}, round ${round} of ${rounds}`);
    const result = await measure(us, shared);
    if (result.unsupported) return {ours: [], theirs: []};
    ours.push(result);
    theirs.push(await measure(other, {...shared, ...other.options}));
  }
  return {ours, theirs};
}

const passSpeed = result => (result.weightBytes * result.tokensPerSecond) / 1e9;

/** [label, value of a result, digits, true if higher is better]. */
const measures = ({tokens, prefill}) => [
  [`${tokens} new tokens after 16, tokens/s`, r => r.tokensPerSecond, 2, true],
  [`prompt of ${prefill} tokens, s`, r => r.prefillSeconds, 3, false],
  ['process start to first token, s', r => r.firstTokenSeconds, 2, false],
  ['of that, loading, s', r => r.loadSeconds, 2, false],
  ['memory after the first token, MB', r => r.rssMegabytes, 0, false],
  ['peak memory, MB', r => r.peakMegabytes, 0, false],
];

function rowsOf({label}, {ours, theirs}, options) {
  if (ours.length === 0) return [[label, measures(options)[0][0], 'not yet', '', '', '']];
  const rows = measures(options).map(([what, value, digits, higherIsBetter]) => {
    const a = ours.map(value);
    const b = theirs.map(value);
    const ratio = (x, y) => (higherIsBetter ? x / y : y / x);
    const ratios = a.map((x, i) => ratio(x, b[i]));
    const range = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`;
    const [x, y] = [median(a), median(b)];
    return [label, what, x.toFixed(digits), y.toFixed(digits), `**${ratio(x, y).toFixed(2)}**`, range];
  });
  const read = median(ours.map(r => r.readGigabytesPerSecond));
  const cell = (results, value) => value(median(results.map(passSpeed)));
  const both = value => [cell(ours, value), cell(theirs, value)];
  const bytes = [ours, theirs].map(([result]) => Math.round(result.weightBytes / 1e6).toString());
  rows.push([label, 'weights, MB', ...bytes, '', '']);
  rows.push([label, 'weights read while decoding, GB/s', ...both(speed => speed.toFixed(1)), '', '']);
  rows.push([
    label,
    `share of a plain read (${read.toFixed(1)} GB/s)`,
    ...both(speed => percent(speed / read)),
    '',
    '',
  ]);
  const [mine, other] = [ours[0].tokens, theirs[0].tokens];
  const differs = mine.findIndex((token, i) => token !== other[i]);
  const same = differs < 0 ? `all ${mine.length}` : `the first ${differs} of ${mine.length}`;
  rows.push([label, 'the same greedy tokens', same, '', '', '']);
  return rows;
}

const percent = share => `${(share * 100).toFixed(0)} %`;

function markdown(header, rows) {
  const line = cells => `| ${cells.join(' | ')} |`;
  const alignment = header.map((_, i) => (i < 2 ? '---' : '---:'));
  return [header, alignment, ...rows].map(line).join('\n');
}

async function main() {
  const options = readOptions();
  const busy = loadavg()[0];
  const peers = [];
  const dtypes = options.dtypes ?? ['bfloat16', 'int8', 'int4'];
  const chosen = comparisons => comparisons.filter(({dtype}) => options.dtypes?.includes(dtype) ?? true);
  if (!options['no-llama']) {
    const version = await installLlama();
    const comparisons = [];
    for (const dtype of dtypes) {
      const gguf = await makeGguf(options.preset, dtype);
      const other = {command: process.execPath, script: 'llama.mjs', weights: gguf, options: {gguf}};
      const label = `${dtype} / ${GGUF_TYPES[dtype].toUpperCase()}`;
      comparisons.push({dtype, label, other, name: 'node-llama-cpp'});
    }
    peers.push({title: `node-llama-cpp ${version}`, comparisons, detail: r => `llama.cpp ${r.version}`});
  }
  if (options.transformers) {
    const version = await installTransformers();
    const onnx = await makeOnnx(options.preset);
    const weights = join(onnx, 'onnx/model_q4.onnx_data');
    const other = {command: process.execPath, script: 'transformers.mjs', weights, options: {onnx}};
    const comparisons = [{dtype: 'int4', label: 'int4 / q4', other, name: 'transformers.js'}];
    peers.push({title: `transformers.js ${version}`, comparisons, detail: () => 'device cpu'});
  }
  if (options.keras) {
    const weights = join(options.preset, 'model.weights.h5');
    const other = {command: PYTHON, script: 'keras_side.py', weights, options: {}};
    const comparisons = ['float32', 'bfloat16'].map(dtype => ({dtype, label: dtype, other, name: 'KerasHub'}));
    // KerasHub has no int4 kernel for CPUs, so int4 is compared with its fastest dtype.
    const fastest = {...other, options: {dtype: 'bfloat16'}};
    comparisons.push({dtype: 'int4', label: 'int4 / bfloat16', other: fastest, name: 'KerasHub'});
    peers.push({title: 'KerasHub on JAX', comparisons: chosen(comparisons), detail: r => r.version});
  }

  if (options.before) {
    const script = resolve(options.before, 'bench/peers/ours.mjs');
    const weights = join(options.preset, 'model.weights.h5');
    const other = {command: process.execPath, script, weights, options: {}};
    const comparisons = dtypes.map(dtype => ({dtype, label: dtype, other, name: 'the other checkout'}));
    const commit = checkout =>
      execFileSync('git', ['-C', checkout, 'rev-parse', '--short', 'HEAD'], {encoding: 'utf8'}).trim();
    peers.push({title: 'before', comparisons, detail: () => `${commit(options.before)}; now ${commit(ROOT)}`});
  }

  const version = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).version;
  const {threads, rounds, runs} = options;
  const machine = {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: cpus().length,
    node: process.version,
    date: new Date().toISOString().slice(0, 10),
    loadAverage: busy,
  };
  const sections = [
    `${machine.cpu}, ${machine.cores} cores, Node ${machine.node}, ${machine.date}. ` +
      `tfjs-gemma3 ${version}, backend simd. ${threads} threads on each side; medians of ${rounds} × ${runs} runs, ` +
      'processes of both sides in turn. A ratio above 1 means that this package is faster or smaller. ' +
      'Range: the lowest and highest ratio of one round.',
  ];
  if (busy > 0.5) {
    sections.push(
      `**The machine was busy at the start (load average ${busy.toFixed(1)}): do not trust these numbers.**`,
    );
  }
  const results = [];
  for (const {title, comparisons, detail} of peers) {
    const rows = [];
    let facts = '';
    for (const comparison of comparisons) {
      const result = await compare(comparison, options);
      rows.push(...rowsOf(comparison, result, options));
      if (result.theirs[0]) facts = ` (${detail(result.theirs[0])})`;
      results.push({peer: title, dtype: comparison.dtype, ...result});
    }
    sections.push(`### ${title}${facts}`);
    sections.push(markdown(['Weights', '', 'tfjs-gemma3', title.split(' ')[0], 'Ratio', 'Range'], rows));
  }
  if (options.json) writeFileSync(options.json, `${JSON.stringify({machine, options, results}, null, 2)}\n`);
  console.log(sections.join('\n\n'));
}

try {
  await main();
} catch (error) {
  if (!(error instanceof Failure) && !error.code?.startsWith('ERR_PARSE_ARGS')) throw error;
  say(error.message);
  process.exitCode = 1;
}

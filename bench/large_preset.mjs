/**
 * Converts a preset of the size of Gemma 3 4B, whose weights are random, and reports memory and speed of each
 * conversion alternating with `cp` of the same file.
 *
 *     node bench/large_preset.mjs [--name gemma3_4b_text] [--like models/gemma3_270m] [--folder FOLDER]
 *         [--cli dist/cli.js] [--convert "tfjs --dtype int8"]…
 *
 * Writes 8 GB of weights into a new folder in FOLDER (the system's for temporary files, unless given), which needs room
 * for three times as much, and removes it at the end. `--like` is a preset whose tokenizer is copied, for formats that
 * need one. `--cli` is the command to measure.
 */
import {spawnSync} from 'node:child_process';
import {cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {build} from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const {values: options} = parseArgs({
  options: {
    name: {type: 'string', default: 'gemma3_4b_text'},
    like: {type: 'string', default: join(ROOT, 'models/gemma3_270m')},
    folder: {type: 'string', default: tmpdir()},
    cli: {type: 'string', default: join(ROOT, 'dist/cli.js')},
    convert: {
      type: 'string',
      multiple: true,
      default: ['tfjs --dtype bfloat16', 'tfjs --dtype int8', 'tfjs --dtype int4'],
    },
  },
});

/** The parts of the package that write a preset, which it does not export. */
async function parts() {
  const contents = `
    export {writerOf} from './converters/formats';
    export {intoFolder} from './src/base/byte_sink';
    export {writeJson} from './src/base/json';
    export {backboneObject, metadataObject} from './src/checkpoints/keras/objects';
    export {openTarget} from './src/files/open_folder';
    export {Gemma3Backbone} from './src/models/gemma3/gemma3_backbone';
  `;
  const banner = {
    js: `import {createRequire as requireFrom} from 'node:module'; const require = requireFrom('${import.meta.url}');`,
  };
  const stdin = {contents, resolveDir: ROOT};
  const {outputFiles} = await build({
    stdin,
    bundle: true,
    write: false,
    logLevel: 'error',
    platform: 'node',
    format: 'esm',
    banner,
  });
  return import(`data:text/javascript;base64,${Buffer.from(outputFiles[0].contents).toString('base64')}`);
}

/** Random bfloat16 values: the same few millions again and again, since only their number matters. */
class RandomStream {
  static values = new Uint16Array(1 << 23).map(() => {
    const [value] = new Uint32Array(Float32Array.of((Math.random() - 0.5) / 20).buffer);
    return value >>> 16;
  });
  constructor(shape) {
    this.shape = shape;
  }
  async readBfloat16(start, count) {
    const {values} = RandomStream;
    const from = start % (values.length / 2);
    return values.subarray(from, from + count);
  }
}

async function writePreset(folder) {
  const {writerOf, intoFolder, writeJson, backboneObject, metadataObject, openTarget, Gemma3Backbone} = await parts();
  const registry = JSON.parse(readFileSync(join(ROOT, 'presets/gemma3_presets.json'), 'utf8'));
  const camel = key => key.replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  const config = Object.fromEntries(
    Object.entries(registry[options.name].config).map(([key, value]) => [camel(key), value]),
  );
  const backbone = new Gemma3Backbone({...config, dtype: 'bfloat16'});
  const sink = await openTarget(folder);
  await intoFolder(
    sink,
    async () => {
      const open = weight => new RandomStream(weight.shape);
      await writerOf('keras').write(sink, {backbone, open, topology: () => ({})}, {to: 'keras'});
      await writeJson(sink, 'config.json', backboneObject(backbone));
      await writeJson(sink, 'metadata.json', metadataObject(backbone.countParams()));
    },
    () => false,
  );
  for (const name of ['tokenizer.json', 'preprocessor.json', 'assets']) {
    const from = join(options.like, name);
    if (existsSync(from)) cpSync(from, join(folder, name), {recursive: true});
  }
  return backbone.countParams();
}

/** Runs a program. Returns its seconds and what it printed to stderr. */
function timed(program, args) {
  const started = performance.now();
  const {status, stderr} = spawnSync(program, args, {encoding: 'utf8', stdio: ['ignore', 'ignore', 'pipe']});
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
  return {seconds: (performance.now() - started) / 1000, stderr};
}

const bytesOf = folder =>
  readdirSync(folder, {recursive: true})
    .map(name => statSync(join(folder, name)))
    .reduce((sum, entry) => sum + (entry.isFile() ? entry.size : 0), 0);

const folder = mkdtempSync(join(options.folder, 'tfjs-gemma3-large-'));
try {
  const preset = join(folder, 'preset');
  const started = performance.now();
  const parameters = await writePreset(preset);
  const weights = join(preset, 'model.weights.h5');
  const gigabytes = bytes => (bytes / 1e9).toFixed(2);
  console.log(
    `${options.name}: ${parameters.toLocaleString('en')} parameters, ${gigabytes(statSync(weights).size)} GB written in ` +
      `${((performance.now() - started) / 1000).toFixed(1)} s with ${Math.round(process.resourceUsage().maxRSS / 1e3)} MB`,
  );
  // Printed by the process itself: no tool for it is on all systems.
  const peak = "data:text/javascript,process.on('exit',()=>console.error('peak',process.resourceUsage().maxRSS))";
  for (const wanted of options.convert) {
    const copy = join(folder, 'copy');
    const cp = timed('cp', [weights, copy]).seconds;
    rmSync(copy);
    const out = join(folder, 'out');
    const command = ['--import', peak, options.cli, 'convert', preset, out, '--to', ...wanted.split(' ')];
    const {seconds, stderr} = timed(process.execPath, command);
    const megabytes = Math.round(Number(/peak (\d+)/.exec(stderr)[1]) / 1e3);
    console.log(
      `${wanted}: ${megabytes} MB, ${seconds.toFixed(1)} s for ${gigabytes(bytesOf(out))} GB; cp ${cp.toFixed(1)} s`,
    );
    rmSync(out, {recursive: true});
  }
} finally {
  rmSync(folder, {recursive: true, force: true});
}

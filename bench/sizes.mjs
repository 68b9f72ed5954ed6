/**
 * Bytes of this package that a page loads, bundled by esbuild, minified and compressed with gzip. Without TensorFlow.js.
 * Needs a build: `npm run build`.
 *
 *     node bench/sizes.mjs
 */
import {dirname, join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {gzipSync} from 'node:zlib';
import {build} from 'esbuild';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Programs of a page, by name. */
export const USES = {
  applyChatTemplate: `export {applyChatTemplate} from 'tfjs-gemma3';`,
  useBackend: `export {useBackend} from 'tfjs-gemma3';`,
  'text generation': `export {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';`,
  'models in a Worker': `export {ModelWorker} from 'tfjs-gemma3/worker';`,
  everything: `export * from 'tfjs-gemma3';`,
};

/** Code that a page loads when it chooses a backend and opens a model, by its entry module. */
export const ON_DEMAND = {
  'backend simd': /simd\/use_simd/,
  'WebAssembly, threads': /generated\/shared_relaxed/,
  'WebAssembly, one thread': /generated\/unshared_relaxed/,
  'weights in HDF5': /keras\/read_weights/,
  "weights in tfjs' format": /tfjs\/read_weights/,
  'folders of Hugging Face': /huggingface\/folder_checkpoint/,
  'GGUF files': /gguf\/open_model/,
};

/**
 * Compressed bytes of a bundle.
 *
 * @returns `start`: the entry with everything that it imports, in so many `files`; `onDemand(module)`: what is loaded with
 * a module after that.
 */
export async function measure(contents) {
  const {metafile, outputFiles} = await build({
    stdin: {contents, resolveDir: root, sourcefile: 'page.js'},
    absWorkingDir: root,
    bundle: true,
    minify: true,
    splitting: true,
    format: 'esm',
    target: 'es2022',
    platform: 'browser',
    external: ['@tensorflow/tfjs', '@tensorflow/tfjs-backend-webgpu'],
    outdir: 'out',
    // Without the paths of tsconfig.json, which lead to the sources.
    tsconfigRaw: '{}',
    metafile: true,
    write: false,
    logLevel: 'error',
  });
  const {outputs} = metafile;
  const bytes = Object.fromEntries(
    outputFiles.map(({path, contents}) => [path.slice(root.length + 1), gzipSync(contents, {level: 9}).length]),
  );
  const reached = (file, seen = new Set()) => {
    if (seen.has(file)) return seen;
    seen.add(file);
    for (const {path, kind} of outputs[file].imports)
      if (kind === 'import-statement' && outputs[path]) reached(path, seen);
    return seen;
  };
  const total = files => [...files].reduce((sum, file) => sum + bytes[file], 0);
  const entryOf = pattern => Object.keys(outputs).find(file => pattern.test(outputs[file].entryPoint ?? ''));
  const start = reached(entryOf(/page\.js$/));
  return {
    start: total(start),
    files: start.size,
    onDemand: pattern => {
      const entry = entryOf(pattern);
      return entry === undefined ? 0 : total([...reached(entry)].filter(file => !start.has(file)));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const show = (name, size) => console.log(`${name.padEnd(32)} ${(size / 1000).toFixed(1).padStart(8)} kB`);
  for (const [name, contents] of Object.entries(USES)) {
    const {start, onDemand} = await measure(contents);
    show(name, start);
    if (name !== 'text generation') continue;
    for (const [part, pattern] of Object.entries(ON_DEMAND)) show(`  + ${part}`, onDemand(pattern));
  }
}

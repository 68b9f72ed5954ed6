/**
 * This package's side.
 *
 *     node bench/peers/ours.mjs '{"preset": …, "dtype": …, "prompt": […], "longPrompt": […], …}'
 */
import {fileURLToPath} from 'node:url';
import {measure, options} from './measure.mjs';
import {median} from './median.mjs';

// By path: from inside bench/peers, which has its own package.json, this package's name does not resolve.
const {Gemma3CausalLM, useBackend} = await import('../../dist/node/index.js');
const tf = await import('@tensorflow/tfjs');

let lm;
let weightBytes;

const side = {
  async load() {
    const {backend = 'simd', threads} = options;
    await useBackend(backend, backend === 'simd' ? {threads} : {});
    try {
      lm = await Gemma3CausalLM.fromPreset(options.preset, {dtype: options.dtype});
    } catch (error) {
      // The library's error for an unknown dtype.
      if (!/^Expected dtype to be one of/.test(error.message)) throw error;
      console.log(JSON.stringify({unsupported: error.message}));
      process.exit(0);
    }
    weightBytes = tf.memory().numBytes;
  },

  async *start(prompt, count) {
    const cache = lm.newCache(1, prompt.length + count);
    let ids = prompt;
    try {
      for (;;) {
        const logits = lm.nextLogits([ids], [ids.length], cache);
        const [token] = await lm.sampler.sample(logits);
        logits.dispose();
        yield token;
        ids = [token];
      }
    } finally {
      cache.dispose();
    }
  },

  facts: async () => ({
    weightBytes,
    ...(tf.getBackend() === 'simd' && {readGigabytesPerSecond: await plainRead(weightBytes)}),
  }),
};

/** GB/s of a loop that only reads, over the memory of the weights, with the same number of threads. */
async function plainRead(bytes) {
  const {build} = await import('esbuild');
  const entry = fileURLToPath(new URL('../../src/backends/simd/engine/command.ts', import.meta.url));
  const {outputFiles} = await build({entryPoints: [entry], bundle: true, write: false, format: 'esm'});
  const code = Buffer.from(outputFiles[0].contents).toString('base64');
  const {read} = await import(`data:text/javascript;base64,${code}`);
  const {engine} = tf.backend();
  const at = engine.staticBytes;
  if (at + bytes > engine.memory.buffer.byteLength)
    throw new Error(`Expected ${bytes} bytes of weights in the first memory of the backend.`);
  const seconds = [];
  for (let i = 0; i < 9; i++) {
    const start = performance.now();
    engine.run(...read({at, bytes}));
    seconds.push((performance.now() - start) / 1000);
  }
  return bytes / median(seconds) / 1e9;
}

await measure(side);
process.exit(0);

/**
 * Two things that must stay small: memory beyond the weights, and the growth of the time per token with the context.
 * Runs each dtype in a separate process, alternating between all kinds of caches, and prints Markdown.
 *
 *     node bench/limits.mjs [--preset models/gemma3_270m] [--dtypes float32,bfloat16,int8,int4]
 *         [--cache-dtypes float32,bfloat16]
 */
import {execFileSync} from 'node:child_process';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';

const ROOT = new URL('..', import.meta.url);
const {values} = parseArgs({
  options: {
    preset: {type: 'string', default: fileURLToPath(new URL('models/gemma3_270m', ROOT))},
    dtypes: {type: 'string', default: 'float32,bfloat16,int8,int4'},
    contexts: {type: 'string', default: '100,1000,4000'},
    threads: {type: 'string', default: '2'},
    'cache-dtypes': {type: 'string', default: 'float32'},
    case: {type: 'string'},
  },
});
/** Timed tokens after each context, per round. */
const TOKENS = 16;
const ROUNDS = 6;

const contexts = values.contexts.split(',');
const cacheDtypes = values['cache-dtypes'].split(',');
const megabytes = bytes => Math.round(bytes / 1e6);
const peak = () => megabytes(process.resourceUsage().maxRSS * 1024);

/** Each case runs in a separate process, which prints its result as JSON. */
const cases = {
  async preset(dtype) {
    const {Gemma3CausalLM, useBackend} = await import('../dist/node/index.js');
    const tf = await import('@tensorflow/tfjs');
    await useBackend('simd', {threads: Number(values.threads)});
    const {backbone} = await Gemma3CausalLM.fromPreset(values.preset, {dtype, preprocessor: null});
    const result = {
      weights: megabytes(tf.memory().numBytes),
      resident: megabytes(process.memoryUsage.rss()),
      peak: peak(),
      caches: [],
    };
    const size = backbone.getConfig().vocabularySize;
    const models = cacheDtypes.map(cacheDtype => new Gemma3CausalLM({backbone, cacheDtype}));
    const sequences = [];
    for (const context of contexts.map(Number)) {
      const ids = Array.from({length: context}, (_, i) => (2 + 37 * i) % size);
      for (const lm of models) {
        sequences.push({lm, cache: lm.newCache(1, context + TOKENS * (ROUNDS + 1)), next: ids, times: []});
      }
    }
    // Alternately, so that changes on the machine affect all of them equally. The first round warms up.
    for (let round = 0; round <= ROUNDS; round++) {
      for (const sequence of sequences) {
        const {lm} = sequence;
        for (let i = 0; i < TOKENS; i++) {
          const start = performance.now();
          const logits = lm.nextLogits([sequence.next], [sequence.next.length], sequence.cache);
          sequence.next = await lm.sampler.sample(logits);
          logits.dispose();
          if (round > 0) sequence.times.push(performance.now() - start);
        }
      }
    }
    for (const lm of models) {
      const own = sequences.filter(sequence => sequence.lm === lm);
      const milliseconds = own.map(({times}) => times.sort((x, y) => x - y)[times.length >> 1]);
      const before = tf.memory().numBytes;
      own.at(-1).cache.dispose();
      result.caches.push({milliseconds, bytes: before - tf.memory().numBytes});
    }
    return result;
  },
};

function inProcess(name) {
  const args = [fileURLToPath(import.meta.url), '--case', name, '--preset', values.preset];
  args.push('--contexts', values.contexts, '--threads', values.threads, '--cache-dtypes', values['cache-dtypes']);
  const out = execFileSync(process.execPath, args, {encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit']});
  return JSON.parse(out.trim().split('\n').at(-1));
}

if (values.case) {
  const [name, ...args] = values.case.split(':');
  console.log(JSON.stringify(await cases[name](...args)));
  process.exit(0);
}

const line = cells => console.log(`| ${cells.join(' | ')} |`);
line([
  'Weights',
  'MB',
  'resident after load',
  'beyond the weights',
  'peak',
  'cache',
  `its MB at ${contexts.at(-1)}`,
  ...contexts.map(n => `ms per token at ${n}`),
  'ratio',
]);
line(['---', ...Array.from({length: contexts.length + 7}, () => '---:')]);
for (const dtype of values.dtypes.split(',')) {
  const {weights, resident, peak, caches} = inProcess(`preset:${dtype}`);
  for (const [i, {milliseconds, bytes}] of caches.entries()) {
    const ratio = milliseconds.at(-1) / milliseconds[0];
    const times = milliseconds.map(ms => ms.toFixed(1));
    const cache = [cacheDtypes[i], (bytes / 1e6).toFixed(1)];
    line([dtype, weights, resident, resident - weights, peak, ...cache, ...times, `**${ratio.toFixed(2)}**`]);
  }
}

/**
 * Embeddings of many short texts: `Gemma3TextEmbedder.encodeText` with batches of texts of similar length, against one
 * text at a time, and against batches in the order of the texts, alternately. Prints Markdown.
 *
 *     node bench/embeddings.mjs [PRESET] [--texts 64] [--dtypes float32,bfloat16,int8,int4] [--threads 2] [--rounds 5]
 */
import {cpus} from 'node:os';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {Gemma3TextEmbedder, useBackend} from '../dist/node/index.js';
import {median} from './peers/median.mjs';

const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {
    texts: {type: 'string', default: '64'},
    dtypes: {type: 'string', default: 'float32,bfloat16,int8,int4'},
    threads: {type: 'string', default: '2'},
    rounds: {type: 'string', default: '5'},
  },
});
const [preset = fileURLToPath(new URL('../models/gemma3_270m', import.meta.url))] = positionals;
const [count, threads, rounds] = ['texts', 'threads', 'rounds'].map(name => Number(values[name]));
const BATCH = 32;

/** Words that are one token each; texts of 10 to 40 of them, in no order. */
const WORDS = 'the river that runs through this city was named after a small green stone found there'.split(' ');
const texts = Array.from({length: count}, (_, i) => {
  const length = 10 + ((i * 17) % 31);
  return Array.from({length}, (_, j) => WORDS[(i * 7 + j * 5 + ((i * j) % 3)) % WORDS.length]).join(' ');
});

await useBackend('simd', {threads});
console.log(`${cpus()[0].model}, Node ${process.versions.node}, ${threads} threads. Medians of ${rounds}.\n`);
console.log('| Weights | texts | tokens | similar lengths, texts/s | in order | one by one | against those |');
console.log('| --- | ---: | ---: | ---: | ---: | ---: | ---: |');
for (const dtype of values.dtypes.split(',')) {
  const embedder = await Gemma3TextEmbedder.fromPreset(preset, {dtype, poolingMode: 'mean'});
  const tokens = texts.reduce((sum, text) => sum + embedder.preprocessor.packedTokens([text]).length, 0);
  const dispose = async promise => (await promise).dispose();
  const ways = {
    similar: () => dispose(embedder.encodeText(texts, {batchSize: BATCH})),
    async inOrder() {
      for (let i = 0; i < count; i += BATCH) {
        const inputs = await embedder.preprocessor.call(texts.slice(i, i + BATCH));
        // The preprocessor pads to its `sequenceLength`; only up to the longest text is fair.
        const length = Math.max(
          ...texts.slice(i, i + BATCH).map(text => embedder.preprocessor.packedTokens([text]).length),
        );
        const cut = Object.fromEntries(
          Object.entries(inputs).map(([name, x]) => [name, tf.slice(x, [0, 0], [x.shape[0], length])]),
        );
        const y = embedder.predict(cut, {batchSize: BATCH});
        await y.data();
        tf.dispose([y, Object.values(cut), Object.values(inputs)]);
      }
    },
    single: () => dispose(embedder.encodeText(texts, {batchSize: 1})),
  };
  const times = Object.fromEntries(Object.keys(ways).map(name => [name, []]));
  for (let round = 0; round <= rounds; round++) {
    for (const [name, run] of Object.entries(ways)) {
      const start = performance.now();
      await run();
      if (round > 0) times[name].push((performance.now() - start) / 1000);
    }
  }
  const speed = name => (count / median(times[name])).toFixed(1);
  const ratio = name => median(times.similar.map((seconds, i) => times[name][i] / seconds)).toFixed(2);
  console.log(
    `| ${dtype} | ${count} | ${tokens} | ${speed('similar')} | ${speed('inOrder')} | ${speed('single')} | ` +
      `${ratio('inOrder')}, ${ratio('single')} |`,
  );
  embedder.dispose();
}
process.exit(0);

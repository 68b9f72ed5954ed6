/**
 * How much quality int8 and int4 cost: scores the same texts in each dtype with teacher forcing.
 *
 *     npm run build && node bench/quality.mjs PRESET TEXT_FILE… [--tokens 3000] [--dtypes bfloat16,int8,int4]
 *         [--window 512] [--cache-dtypes float32,bfloat16]
 *
 * Prints the average bits per weight, the loading time, the perplexity of all texts together, its increase on each text
 * over the first dtype of the list, and how often the most probable next token is the same as with that dtype.
 * `--tokens` is the number of tokens of each text, and `--window` that of the pieces in which it is read. For a
 * bfloat16 preset, float32 and bfloat16 hold the same values. `--also NAME=PRESET` also scores another preset, in
 * float32: bench/peers/rounded_preset.py writes one with llama.cpp's rounding.
 */
import {readFileSync} from 'node:fs';
import {basename, extname} from 'node:path';
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, useBackend} from '../dist/node/index.js';

const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {
    tokens: {type: 'string', default: '3000'},
    dtypes: {type: 'string', default: 'float32,bfloat16,int8,int4'},
    window: {type: 'string', default: '512'},
    'cache-dtypes': {type: 'string', default: 'float32'},
    also: {type: 'string', multiple: true, default: []},
  },
});
const [preset, ...files] = positionals;
if (!preset || files.length === 0) {
  console.error('Expected a preset and text files. Usage: node bench/quality.mjs PRESET TEXT_FILE…');
  process.exit(2);
}
const [limit, window] = [Number(values.tokens), Number(values.window)];
/** Positions whose logits are computed at once: 262,144 floats each. */
const ROWS = 32;

await useBackend('simd');

/** Bits of a weight on average, in all matrices that the dtype packs. */
function bitsOf({weights}) {
  const packed = weights.filter(({rows, byteLength}) => rows && byteLength);
  const sum = size => packed.reduce((total, weight) => total + size(weight), 0);
  return packed.length === 0 ? 32 : (8 * sum(({byteLength}) => byteLength)) / sum(w => w.rows * w.columns);
}

/** The best token at each predicted position of a text, and the losses. The first token of a window is given. */
async function scoreText(lm, file) {
  const {tokenizer} = lm.preprocessor;
  const ids = tokenizer.tokenize(readFileSync(file, 'utf8')).slice(0, limit);
  const best = [];
  let loss = 0;
  for (let start = 0; start < ids.length; start += window - 1) {
    const part = [tokenizer.startTokenId, ...ids.slice(start, start + window - 1)];
    const cache = lm.newCache(1, part.length);
    const hidden = lm.hiddenStates({rows: [part], counts: [part.length]}, cache);
    cache.dispose();
    for (let from = 0; from < part.length - 1; from += ROWS) {
      const count = Math.min(ROWS, part.length - 1 - from);
      const logits = tf.tidy(() => {
        const rows = hidden.slice([0, from, 0], [1, count, -1]).reshape([count, -1]);
        return lm.logits(rows);
      });
      const data = await logits.data();
      const size = logits.shape[1];
      logits.dispose();
      for (let row = 0; row < count; row++) {
        let max = -Infinity;
        let top = 0;
        for (let i = 0, at = row * size; i < size; i++, at++) {
          if (data[at] > max) [max, top] = [data[at], i];
        }
        let sum = 0;
        for (let i = 0, at = row * size; i < size; i++, at++) sum += Math.exp(data[at] - max);
        best.push(top);
        loss += max + Math.log(sum) - data[row * size + part[from + row + 1]];
      }
    }
    hidden.dispose();
  }
  return {best, loss};
}

async function score(path, dtype, cacheDtype) {
  const start = performance.now();
  const lm = await Gemma3CausalLM.fromPreset(path, {dtype, cacheDtype});
  const seconds = (performance.now() - start) / 1000;
  const texts = [];
  for (const file of files) texts.push(await scoreText(lm, file));
  const bits = bitsOf(lm.backbone);
  lm.dispose();
  return {texts, bits, seconds};
}

const perplexity = texts =>
  Math.exp(texts.reduce((sum, {loss}) => sum + loss, 0) / texts.reduce((sum, {best}) => sum + best.length, 0));

const names = files.map(file => basename(file, extname(file)));
const columns = ['bits', 'load, s', 'perplexity', 'against the first', ...names, 'same best token'];
console.log(`| Weights | ${columns.join(' | ')} |\n| --- |${' ---: |'.repeat(columns.length)}`);
const cacheDtypes = values['cache-dtypes'].split(',');
const cases = values.dtypes
  .split(',')
  .flatMap(dtype =>
    cacheDtypes.map(cache => [cacheDtypes.length > 1 ? `${dtype}, cache ${cache}` : dtype, preset, dtype, cache]),
  );
for (const text of values.also) {
  const [name, path] = text.split('=');
  cases.push([name, path, 'float32', cacheDtypes[0]]);
}
let reference;
for (const [name, path, dtype, cacheDtype] of cases) {
  const {texts, bits, seconds} = await score(path, dtype, cacheDtype);
  reference ??= texts;
  const change = (ours, theirs) => `${((perplexity(ours) / perplexity(theirs) - 1) * 100).toFixed(2)} %`;
  const all = reference.flatMap(({best}) => best);
  const same = texts.flatMap(({best}) => best).filter((token, i) => token === all[i]).length / all.length;
  const cells = [
    ...[bits.toFixed(2), seconds.toFixed(2), perplexity(texts).toFixed(3), change(texts, reference)],
    ...texts.map((text, i) => change([text], [reference[i]])),
    `${(same * 100).toFixed(2)} %`,
  ];
  console.log(`| ${name} | ${cells.join(' | ')} |`);
}
console.log(`\n${reference.map(({best}) => best.length).join(' + ')} tokens.`);

/**
 * How much quality int8 and int4 cost: scores the same text in each dtype with teacher forcing.
 *
 *     npm run build && node bench/quality.mjs PRESET TEXT_FILE [--tokens 3000] [--dtypes bfloat16,int8,int4]
 *
 * Prints the perplexity, and how often the most probable next token is the same as in the first dtype of the list. For
 * a bfloat16 preset, float32 and bfloat16 hold the same values. `--also NAME=PRESET` also scores another preset, in
 * float32: bench/peers/rounded_preset.py writes one with llama.cpp's rounding.
 */
import {readFileSync} from 'node:fs';
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, useBackend} from '../dist/node/index.js';

const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {
    tokens: {type: 'string', default: '3000'},
    dtypes: {type: 'string', default: 'float32,bfloat16,int8,int4'},
    window: {type: 'string', default: '512'},
    also: {type: 'string', multiple: true, default: []},
  },
});
const [preset, file] = positionals;
if (!preset || !file) {
  console.error('Expected a preset and a text file. Usage: node bench/quality.mjs PRESET TEXT_FILE');
  process.exit(2);
}
const [limit, window] = [Number(values.tokens), Number(values.window)];
/** Positions whose logits are computed at once: 262,144 floats each. */
const ROWS = 32;

await useBackend('simd');

/** The best token at each predicted position, and the perplexity of the text. The first token of a window is given. */
async function score(path, dtype) {
  const lm = await Gemma3CausalLM.fromPreset(path, {dtype});
  const {tokenizer} = lm.preprocessor;
  const ids = tokenizer.tokenize(readFileSync(file, 'utf8')).slice(0, limit);
  const best = [];
  let loss = 0;
  for (let start = 0; start < ids.length; start += window - 1) {
    const part = [tokenizer.startTokenId, ...ids.slice(start, start + window - 1)];
    const hidden = lm.backbone.predict({token_ids: [part], padding_mask: [part.map(() => 1)]});
    for (let from = 0; from < part.length - 1; from += ROWS) {
      const count = Math.min(ROWS, part.length - 1 - from);
      const logits = tf.tidy(() => {
        const rows = hidden.slice([0, from, 0], [1, count, -1]).reshape([count, -1]);
        return lm.backbone.tokenEmbedding.call(rows, {reverse: true});
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
  lm.dispose();
  return {best, perplexity: Math.exp(loss / best.length)};
}

let reference;
console.log('| Weights | perplexity | against the first | same best token |\n| --- | ---: | ---: | ---: |');
const cases = values.dtypes.split(',').map(dtype => [dtype, preset, dtype]);
for (const text of values.also) {
  const [name, path] = text.split('=');
  cases.push([name, path, 'float32']);
}
for (const [name, path, dtype] of cases) {
  const {best, perplexity} = await score(path, dtype);
  reference ??= {best, perplexity};
  const same = best.filter((token, i) => token === reference.best[i]).length / best.length;
  const change = (perplexity / reference.perplexity - 1) * 100;
  console.log(`| ${name} | ${perplexity.toFixed(3)} | ${change.toFixed(2)} % | ${(same * 100).toFixed(2)} % |`);
}
console.log(`\n${reference.best.length} tokens.`);

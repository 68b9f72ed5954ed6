/**
 * The gain from prompt lookup on a real Gemma 3: greedy and speculative decoding alternately, in one process, over a
 * text that repeats itself and one that does not. Prints Markdown.
 *
 *     node bench/speculative.mjs [PRESET [DTYPE]]
 */
import {parseArgs} from 'node:util';
import {Gemma3CausalLM, samplers, useBackend} from '../dist/node/index.js';
import {median} from './peers/median.mjs';

const {positionals, values} = parseArgs({
  allowPositionals: true,
  options: {tokens: {type: 'string', default: '96'}, runs: {type: 'string', default: '3'}},
});
const [preset = 'models/gemma3_270m', dtype] = positionals;
const [tokens, runs] = [Number(values.tokens), Number(values.runs)];

const ITEM = (name, price) => `  {"name": "${name}", "price": ${price}, "currency": "EUR", "available": true},\n`;
const PROMPTS = {
  'a list that repeats': `[\n${['apple', 'banana', 'cherry', 'fig'].map((name, i) => ITEM(name, i + 2)).join('')}`,
  'a story': 'Once upon a time, in a village by the sea, there lived an old fisherman who',
};

const SAMPLERS = {
  greedy: () => new samplers.GreedySampler(),
  ...Object.fromEntries(
    [3, 5, 8].map(n => [`speculative, ${n} guesses`, () => new samplers.SpeculativeSampler({numSpeculativeTokens: n})]),
  ),
};

await useBackend('simd');
const lm = await Gemma3CausalLM.fromPreset(preset, dtype ? {dtype} : {});

/** Passes after the prompt, and the speed from the first token on. */
async function run(sampler, prompt) {
  let passes = -1;
  const {hiddenStates} = lm;
  lm.hiddenStates = (...args) => {
    passes += 1;
    return hiddenStates.apply(lm, args);
  };
  lm.compile({sampler});
  const {tokens: rows} = await lm.preprocessor.promptTokens(prompt, {});
  const maxLength = rows[0].length + tokens;
  let start = 0;
  let text = '';
  try {
    for await (const piece of lm.stream(prompt, {maxLength, stopTokenIds: null})) {
      start ||= performance.now();
      text += piece;
    }
  } finally {
    delete lm.hiddenStates;
  }
  return {text, passes, speed: (tokens - 1) / ((performance.now() - start) / 1000)};
}

console.log('| text | sampler | tokens per pass | tokens/s | same text as greedy |\n| --- | --- | --- | --- | --- |');
for (const [title, prompt] of Object.entries(PROMPTS)) {
  const results = Object.fromEntries(Object.keys(SAMPLERS).map(name => [name, []]));
  for (let i = 0; i <= runs; i++) {
    for (const [name, make] of Object.entries(SAMPLERS)) {
      const result = await run(make(), prompt);
      process.stderr.write(`${title}, ${name}: ${result.passes} passes, ${result.speed.toFixed(1)} tokens/s\n`);
      if (i > 0) results[name].push(result);
    }
  }
  for (const [name, measured] of Object.entries(results)) {
    const [{text, passes}] = measured;
    const speed = median(measured.map(({speed}) => speed));
    const same = text === results.greedy[0].text ? 'yes' : 'no';
    console.log(`| ${title} | ${name} | ${((tokens - 1) / passes).toFixed(2)} | ${speed.toFixed(1)} | ${same} |`);
  }
}
lm.dispose();

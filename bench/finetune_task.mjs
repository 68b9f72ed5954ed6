/**
 * A small task for LoRA on a real model: turn names and hosts into e-mail addresses. Trains on a few hundred examples
 * and counts exact answers on other names.
 *
 *     node bench/finetune_task.mjs [preset] [--rank 4] [--examples 300] [--epochs 2] [--batch-size 8]
 *         [--dtype bfloat16]
 */
import {parseArgs} from 'node:util';
import {Gemma3CausalLM, losses, optimizers, useBackend} from '../dist/node/index.js';

const number = value => ({type: 'string', default: String(value)});
const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {
    ...{rank: number(4), examples: number(300), held: number(100), epochs: number(2), 'batch-size': number(8)},
    ...{'learning-rate': number(1e-3), dtype: {type: 'string'}},
  },
});
const [preset = 'models/gemma3_270m'] = positionals;
const [rank, examples, held, epochs] = ['rank', 'examples', 'held', 'epochs'].map(name => Number(values[name]));
const batchSize = Number(values['batch-size']);

const FIRST =
  'Ada Grace Alan Linus Margaret Edsger Barbara Donald Dennis Ken Guido James Anders Brendan Yukihiro Larry Tim ' +
  'Radia Frances Jean Katherine Hedy Annie Karen Sophie Lynn Shafi Leslie Niklaus Tony Adele Evelyn Mary Joan Marlyn ' +
  'Kathleen';
const LAST =
  'Lovelace Hopper Turing Torvalds Hamilton Dijkstra Liskov Knuth Ritchie Thompson Rossum Gosling Hejlsberg Eich ' +
  'Matsumoto Wall Perlman Allen Bartik Johnson Lamarr Easley Jones Wilson Conway Goldwasser Lamport ' +
  'Wirth Hoare Goldberg Boyd Clarke';
const HOSTS = ['example.org', 'mail.net', 'acme.com', 'post.io', 'uni.edu'];

/** Draws the same names in every run. */
function task(count) {
  let state = 12345;
  const draw = list => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return list[Math.floor((state / 2 ** 32) * list.length)];
  };
  const [first, last] = [FIRST, LAST].map(names => names.split(' '));
  const seen = new Set();
  const examples = [];
  while (examples.length < count) {
    const [a, b, host] = [draw(first), draw(last), draw(HOSTS)];
    if (seen.has(a + b)) continue;
    seen.add(a + b);
    examples.push({prompt: `${a} ${b}, ${host} ->`, response: ` ${a.toLowerCase()}.${b.toLowerCase()}@${host}`});
  }
  return examples;
}

async function exactAnswers(lm, rows) {
  const texts = await lm.generate(
    rows.map(({prompt}) => prompt),
    {maxLength: 48, stripPrompt: true, stopStrings: ['\n']},
  );
  return texts.filter((text, i) => text === rows[i].response).length;
}

const backend = await useBackend();
const all = task(examples + held);
const [train, test] = [all.slice(0, examples), all.slice(examples)];
const lm = await Gemma3CausalLM.fromPreset(preset, values.dtype ? {dtype: values.dtype} : {});
const before = await exactAnswers(lm, test);
lm.backbone.enableLora(rank, {seed: 1});
const steps = Math.ceil(train.length / batchSize) * epochs;
const warmupSteps = Math.round(steps / 20);
const learningRate = new optimizers.CosineDecay({
  ...{
    initialLearningRate: 0,
    warmupTarget: Number(values['learning-rate']),
    warmupSteps,
    decaySteps: steps - warmupSteps,
  },
});
lm.compile({
  optimizer: new optimizers.AdamW({learningRate, weightDecay: 0.01, globalClipNorm: 1}),
  loss: new losses.SparseCategoricalCrossentropy({reduction: 'mean_with_sample_weight'}),
});
const started = performance.now();
let tokens = 0;
const {history} = await lm.fit(
  {prompts: train.map(({prompt}) => prompt), responses: train.map(({response}) => response)},
  {epochs, batchSize, seed: 1, callbacks: {onBatchEnd: (_, logs) => void (tokens += logs.inputTokens)}},
);
const seconds = (performance.now() - started) / 1000;
const memory = process.resourceUsage().maxRSS / 1024;
await lm.mergeLora();
const after = await exactAnswers(lm, test);
lm.dispose();

const percent = count => `${((100 * count) / test.length).toFixed(0)} %`;
console.log(
  `${preset}, ${values.dtype ?? "the preset's dtype"}, ${backend}, rank ${rank}, ` +
    `${new Date().toISOString().slice(0, 10)}\n`,
);
console.log(
  '| examples | epochs | steps | minutes | tokens/s | loss by epoch | peak MB | exact before | exact after |',
);
console.log('|---|---|---|---|---|---|---|---|---|');
console.log(
  `| ${train.length} | ${epochs} | ${steps} | ${(seconds / 60).toFixed(1)} | ${Math.round(tokens / seconds)} | ` +
    `${history.loss.map(loss => loss.toFixed(3)).join(', ')} | ${Math.round(memory)} | ` +
    `${percent(before)} | ${percent(after)} |`,
);

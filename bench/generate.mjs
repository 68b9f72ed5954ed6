/**
 * Load time, prefill and decode speed and memory of a preset.
 *
 *     npm run bench -- PRESET [--dtype float32|bfloat16] [--tokens 32] [--runs 3]
 */
import {cpus} from 'node:os';
import {execFileSync} from 'node:child_process';
import {parseArgs} from 'node:util';
import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';

const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {dtype: {type: 'string'}, tokens: {type: 'string', default: '32'}, runs: {type: 'string', default: '3'}},
});
const [preset = 'gemma3_tiny'] = positionals;
const [tokens, runs] = [Number(values.tokens), Number(values.runs)];
const megabytes = () => Math.round(process.memoryUsage().rss / 1e6);
const median = xs => [...xs].sort((a, b) => a - b)[xs.length >> 1];
const seconds = async work => {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
};

const backend = await useBackend();
const before = megabytes();
let lm;
const load = await seconds(async () => {
  lm = await Gemma3CausalLM.fromPreset(preset, values.dtype ? {dtype: values.dtype} : {});
});
const afterLoad = megabytes();

const prompt = [2, ...Array.from({length: 31}, (_, i) => 10 + i)];
const prefills = [];
const decodes = [];
for (let run = 0; run < runs; run++) {
  const cache = lm.newCache(1, prompt.length + tokens);
  prefills.push(await seconds(() => lm.nextLogits([prompt], [prompt.length], cache).data()));
  decodes.push((await seconds(async () => {
    for (let i = 0; i < tokens; i++) await lm.nextLogits([[20 + i]], [1], cache).data();
  })) / tokens);
  cache.dispose();
}

let commit = 'unknown';
try {
  commit = execFileSync('git', ['rev-parse', '--short', 'HEAD'], {encoding: 'utf8'}).trim();
} catch {
  // outside a clone there is no commit to name
}
console.log(`${cpus()[0]?.model ?? 'unknown CPU'}, ${cpus().length} cores, Node ${process.version}`);
console.log(`${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${preset.split('/').pop()}\n`);
console.log('| backend | weights | load, s | prefill of 32, s | decode, tokens/s | memory after load, MB |');
console.log('|---|---|---|---|---|---|');
console.log(
  `| ${backend} | ${lm.backbone.config.dtype} | ${load.toFixed(1)} | ${median(prefills).toFixed(2)} | ` +
    `${(1 / median(decodes)).toFixed(2)} | ${afterLoad} (${before} before) |`,
);

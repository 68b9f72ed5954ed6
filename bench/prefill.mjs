/**
 * A long prompt in one pass and in pieces: time and peak memory, each measured in a separate process.
 *
 *     node bench/prefill.mjs [preset] [tokens] [piece ...]
 */
import {spawnSync} from 'node:child_process';
import {fileURLToPath} from 'node:url';

const [preset = 'models/gemma3_270m', tokens = '8000', ...pieces] = process.argv.slice(2);

if (!process.env.PIECE) {
  console.log(`| tokens at once | seconds | tokens/s | peak MB above the model |\n|---|---|---|---|`);
  for (const piece of pieces.length ? pieces : [tokens, '2048', '1024', '512', '256', '128']) {
    const env = {...process.env, PIECE: piece};
    spawnSync(process.execPath, [fileURLToPath(import.meta.url), preset, tokens], {env, stdio: 'inherit'});
  }
} else {
  const {Gemma3CausalLM, useBackend} = await import('../dist/node/index.js');
  await useBackend('simd');
  const lm = await Gemma3CausalLM.fromPreset(preset, {preprocessor: null});
  const count = Number(tokens);
  const prompt = Array.from({length: count}, (_, i) => 1000 + ((i * 7919) % 50000));
  const options = {maxLength: count + 1, stopTokenIds: null, prefillChunk: Number(process.env.PIECE)};
  const run = async ids => {
    // One new token, so that only the prompt is measured.
    for await (const tokens of lm.steps([{tokens: ids}], {...options, maxLength: ids.length + 1})) void tokens;
  };
  await run(prompt.slice(0, 64));
  // Writing 5 resets the peak memory of the process (Linux).
  const {readFileSync, writeFileSync} = await import('node:fs');
  const status = name =>
    Number(new RegExp(`${name}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
  writeFileSync('/proc/self/clear_refs', '5');
  const before = status('VmRSS');
  const start = performance.now();
  await run(prompt);
  const seconds = (performance.now() - start) / 1000;
  console.log(
    `| ${process.env.PIECE} | ${seconds.toFixed(1)} | ${(count / seconds).toFixed(0)} | ` +
      `${(status('VmHWM') - before).toFixed(0)} |`,
  );
  lm.dispose();
}

/**
 * For how long a prompt keeps Node's event loop from other work: the times between the turns of a loop that always wants
 * the next one, while the model reads a prompt. `blocked` is the same without steps, one pass for a whole piece, as a
 * model without them would do.
 *
 *     node bench/event_loop.mjs [preset] [tokens] [piece ...]
 */
const [preset = 'models/gemma3_270m', tokens = '1000', ...pieces] = process.argv.slice(2);
const {Gemma3CausalLM, useBackend} = await import('../dist/node/index.js');

const options = process.env.THREADS ? {threads: Number(process.env.THREADS)} : {};
await useBackend('simd', options);
const lm = await Gemma3CausalLM.fromPreset(preset, {preprocessor: null});
const ids = Array.from({length: Number(tokens)}, (_, i) => 1000 + ((i * 7919) % 50000));

/** Runs something and measures the times between turns of the event loop, in milliseconds. */
async function turnsDuring(run) {
  const times = [];
  let running = true;
  let last = performance.now();
  const turn = () => {
    const now = performance.now();
    times.push(now - last);
    last = now;
    if (running) setImmediate(turn);
  };
  setImmediate(turn);
  const start = performance.now();
  await run();
  const seconds = (performance.now() - start) / 1000;
  running = false;
  await new Promise(resolve => setImmediate(resolve));
  return {seconds, times: times.sort((a, b) => b - a)};
}

async function read(prefillChunk) {
  const request = {maxLength: ids.length + 1, stopTokenIds: null, ...(prefillChunk && {prefillChunk})};
  for await (const step of lm.steps([{tokens: ids}], request)) void step;
}

const steps = Object.getPrototypeOf(lm).hiddenSteps;
/** One step for the whole piece. */
function* onePass(given, cache) {
  const all = steps.call(lm, given, cache);
  for (;;) {
    const {done, value} = all.next();
    if (done) return value;
  }
}

await read();
console.log(
  '| pieces | steps | seconds | longest turn | second longest | turns over 50 ms |\n|---|---|---:|---:|---:|---:|',
);
for (const piece of pieces.length ? pieces.map(Number) : [undefined, 64, 128, 256, 512]) {
  for (const divided of [true, false]) {
    lm.hiddenSteps = divided ? steps : onePass;
    const {seconds, times} = await turnsDuring(() => read(piece));
    const [first, second] = times;
    console.log(
      `| ${piece ?? 'default'} | ${divided ? 'blocks' : 'blocked'} | ${seconds.toFixed(2)} | ${first.toFixed(0)} ms | ` +
        `${second.toFixed(0)} ms | ${times.filter(time => time > 50).length} |`,
    );
  }
}
lm.dispose();

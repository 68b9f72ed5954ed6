/**
 * What both sides of a comparison do, so that they do the same: load, one token, then runs of a decode and a prefill.
 *
 * A side is `{load, start, facts}`: `load()` makes the model ready; `start(prompt)` begins a sequence and gives an async
 * iterator of greedy tokens, of which the first comes with the prefill; `facts()` adds fields to what is printed.
 */
import {median} from './median.mjs';

export const options = {
  threads: 2,
  runs: 3,
  tokens: 128,
  startedAt: performance.timeOrigin,
  ...JSON.parse(process.argv[2] ?? '{}'),
};

const megabytes = bytes => Math.round(bytes / 1e6);
const now = () => performance.now() / 1000;

/** Takes `count` tokens → seconds of the first, seconds of all others, tokens. */
async function generate(side, prompt, count) {
  const tokens = [];
  const start = now();
  let first = start;
  for await (const token of side.start(prompt, count)) {
    if (tokens.push(token) === 1) first = now();
    if (tokens.length === count) break;
  }
  if (tokens.length < count) throw new Error(`Only ${tokens.length} of ${count} tokens came.`);
  return {first: first - start, rest: now() - first, tokens};
}

export async function measure(side) {
  const {prompt, longPrompt, tokens, runs, startedAt} = options;
  const loadStart = now();
  await side.load();
  const loadSeconds = now() - loadStart;
  await generate(side, prompt, 1);
  const firstTokenSeconds = (performance.timeOrigin + performance.now() - startedAt) / 1000;
  const rss = process.memoryUsage.rss();

  const decodes = [];
  const prefills = [];
  for (let i = 0; i < runs; i++) {
    decodes.push(await generate(side, prompt, tokens + 1));
    prefills.push(await generate(side, longPrompt, 1));
  }
  const result = {
    loadSeconds,
    firstTokenSeconds,
    prefillSeconds: median(prefills.map(run => run.first)),
    tokensPerSecond: tokens / median(decodes.map(run => run.rest)),
    rssMegabytes: megabytes(rss),
    peakMegabytes: megabytes(process.resourceUsage().maxRSS * 1024),
    tokens: decodes[0].tokens,
  };
  console.log(JSON.stringify({...result, ...(await side.facts())}));
}

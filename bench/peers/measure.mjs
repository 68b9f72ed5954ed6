/**
 * Measures either JavaScript side of a comparison: load, generate one token, then time decode and prefill runs.
 *
 * A side is `{load, start, facts}`: `load()` loads the model; `start(prompt, count)` begins a sequence and returns an
 * async iterator of greedy tokens, of which the first includes the prefill; `facts()` returns more fields to print.
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

/** Generates `count` tokens → {first: seconds of the first one, rest: seconds of the others, tokens}. */
async function generate(side, prompt, count) {
  const tokens = [];
  const start = now();
  let first = start;
  for await (const token of side.start(prompt, count)) {
    if (tokens.push(token) === 1) first = now();
    if (tokens.length === count) break;
  }
  if (tokens.length < count) throw new Error(`Expected ${count} tokens. Received: ${tokens.length}.`);
  return {first: first - start, rest: now() - first, tokens};
}

export async function measure(side) {
  const {prompt, longPrompt, tokens, runs, startedAt} = options;
  const loadStart = now();
  await side.load();
  const loadSeconds = now() - loadStart;
  const shortest = tokens > 0 ? prompt : longPrompt;
  await generate(side, shortest, 1);
  const firstTokenSeconds = (performance.timeOrigin + performance.now() - startedAt) / 1000;
  const rss = process.memoryUsage.rss();

  const decodes = [];
  const prefills = [];
  for (let i = 0; i < runs; i++) {
    if (tokens > 0) decodes.push(await generate(side, prompt, tokens + 1));
    prefills.push(await generate(side, longPrompt, 1));
  }
  const result = {
    loadSeconds,
    firstTokenSeconds,
    prefillSeconds: median(prefills.map(run => run.first)),
    ...(tokens > 0 && {tokensPerSecond: tokens / median(decodes.map(run => run.rest))}),
    rssMegabytes: megabytes(rss),
    peakMegabytes: megabytes(process.resourceUsage().maxRSS * 1024),
    tokens: decodes[0]?.tokens ?? [],
  };
  console.log(JSON.stringify({...result, ...(await side.facts())}));
}

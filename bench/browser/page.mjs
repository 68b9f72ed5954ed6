/** Runs the sides in turns on this page, and shows medians. Parameters of the address fill in the form. */
import {median} from '../peers/median.mjs';
import * as ours from './sides/ours.mjs';

const SIDES = {
  ours: async () => ours,
  transformers: () => import('./sides/transformers_js.mjs'),
  'web-llm': () => import('./sides/web_llm.mjs'),
};
const DEFAULTS = {preset: '/models/gemma3_1b', dtype: 'int4', words: '100', tokens: '256', rounds: '3', sides: 'ours'};
const SENTENCE = 'The old lighthouse keeper counted the ships that passed in the fog and wrote each name in his book.';

const element = id => document.getElementById(id);
const form = element('form');
const say = text => (element('progress').textContent = text);

/** A prompt of so many words, different in each round, so that no side can keep it. */
const promptOf = (words, round) => {
  const all = Array.from({length: Math.ceil(words / 18)}, () => SENTENCE).join(' ');
  return `${round}. Continue this story: ${all.split(' ').slice(0, words).join(' ')}`;
};

/** Seconds until the first token, and tokens per second after it. */
async function measure(side, prompt, tokens) {
  const start = performance.now();
  let first;
  const count = await side.generate(prompt, tokens, () => (first ??= performance.now()));
  const end = performance.now();
  if (count < tokens) throw new Error(`Expected ${tokens} tokens. Received: ${count}.`);
  return {first: (first - start) / 1000, speed: ((count - 1) / (end - first)) * 1000};
}

/** → {agent, settings, sides: [{name, what, load, first, speed, rounds, facts?}], failed: [{name, reason}]} */
async function compare({sides: names, words, tokens, rounds, ...options}) {
  const open = [];
  const failed = [];
  for (const key of names) {
    let name = key;
    try {
      const side = await SIDES[key]();
      name = side.name;
      const start = performance.now();
      const onProgress = part => say(`${name}: loading, ${Math.round(100 * part)} %`);
      const opened = await side.open({...options, onProgress});
      open.push({name, side: opened, load: (performance.now() - start) / 1000, rounds: []});
    } catch (error) {
      failed.push({name, reason: String(error?.message ?? error)});
    }
  }
  // The first round makes programs and caches ready, and does not count.
  for (let round = 0; round <= rounds; round++) {
    for (const one of open) {
      if (one.reason) continue;
      say(`${one.name}: round ${round} of ${rounds}`);
      try {
        const measured = await measure(one.side, promptOf(words, round), tokens);
        if (round > 0) one.rounds.push(measured);
      } catch (error) {
        one.reason = String(error?.message ?? error);
        failed.push({name: one.name, reason: one.reason});
      }
    }
  }
  const sides = [];
  for (const {name, side, load, rounds: measured, reason} of open) {
    if (!reason) {
      const speed = median(measured.map(one => one.speed));
      const first = median(measured.map(one => one.first));
      const facts = await side.facts?.(tokens - 1, 1 / speed);
      sides.push({name, what: side.what, load, first, speed, rounds: measured, ...(facts && {facts})});
    }
    await side.close();
  }
  return {agent: navigator.userAgent, settings: {words, tokens, rounds, ...options}, sides, failed};
}

function show(result) {
  const cells = (tag, values) => `<tr>${values.map(value => `<${tag}>${value}</${tag}>`).join('')}</tr>`;
  const base = result.sides.find(({name}) => name === ours.name)?.speed;
  const rows = result.sides.map(({name, what, load, first, speed}) => [
    `${name} (${what})`,
    `${load.toFixed(1)} s`,
    `${(1000 * first).toFixed(0)} ms`,
    speed.toFixed(1),
    base ? (base / speed).toFixed(2) : '',
  ]);
  const head = ['', 'load', 'first token', 'tokens/s', `${ours.name} is … times as fast`];
  element('table').innerHTML = cells('th', head) + rows.map(row => cells('td', row)).join('');
  const facts = result.sides.find(one => one.facts)?.facts;
  const lines = result.failed.map(({name, reason}) => `${name} did not run: ${reason}`);
  if (facts) {
    lines.unshift(
      `${facts.adapter}\n${(facts.weightBytes / 1e9).toFixed(2)} GB of weights a token: ` +
        `${(facts.bytesPerSecond / 1e9).toFixed(1)} GB/s, ${(100 * facts.shareOfCopy).toFixed(1)} % of a plain copy ` +
        `(${(facts.copyBytesPerSecond / 1e9).toFixed(1)} GB/s). A token takes ${facts.dispatchesPerToken.toFixed(1)} ` +
        `dispatches, ${facts.submissionsPerToken.toFixed(2)} submissions and ${facts.bytesReadPerToken.toFixed(1)} bytes read.`,
    );
  }
  say(lines.join('\n'));
  element('json').textContent = JSON.stringify(result, null, 2);
  element('table').hidden = element('details').hidden = false;
}

const given = {...DEFAULTS, ...Object.fromEntries(new URLSearchParams(location.search))};
element('sides').innerHTML = Object.keys(SIDES)
  .map(key => `<label><input type="checkbox" name="sides" value="${key}" /> ${key}</label>`)
  .join('');
for (const input of form.querySelectorAll('[name]')) {
  const value = given[input.name];
  if (input.type !== 'checkbox') input.value = value;
  else if (input.name === 'sides') input.checked = value.split(',').includes(input.value);
  else input.checked = value !== undefined;
}
form.addEventListener('submit', async event => {
  event.preventDefault();
  const data = new FormData(form);
  const settings = {
    sides: data.getAll('sides'),
    preset: new URL(data.get('preset'), location.href).href,
    dtype: data.get('dtype'),
    software: data.has('software'),
    ...Object.fromEntries(['words', 'tokens', 'rounds'].map(name => [name, Number(data.get(name))])),
  };
  form.inert = true;
  globalThis.result = undefined;
  try {
    const result = await compare(settings);
    show(result);
    globalThis.result = result;
  } catch (error) {
    say(String(error?.message ?? error));
    globalThis.result = {failed: [{name: 'page', reason: String(error?.message ?? error)}], sides: []};
  } finally {
    form.inert = false;
  }
});
say('Ready.');

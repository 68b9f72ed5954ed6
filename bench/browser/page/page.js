/** Measures the sides alternately, on one page and one GPU. */
import {countCalls} from './calls.js';
import {reportOf} from './report.js';
import {DEFAULTS, promptOf} from './settings.js';

/* global VERSIONS */
const SIDES = DEFAULTS.sides.split(',');

const given = new URLSearchParams(location.search);
const settings = Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, given.get(name) ?? value]));
const form = document.querySelector('form');
for (const [name, value] of Object.entries(settings)) {
  const label = document.createElement('label');
  const input = Object.assign(document.createElement('input'), {name, value});
  label.append(`${name} `, input);
  document.querySelector('#settings').append(label);
}

const say = text => (document.querySelector('#state').textContent = text);

/** Loads a side. Failures are recorded, and the others continue. */
async function open(key, options) {
  const side = {key, name: key, version: VERSIONS[key], runs: []};
  try {
    if (!SIDES.includes(key)) throw new Error(`Expected sides out of ${SIDES.join(', ')}. Received: ${key}.`);
    const module = await import(`${location.origin}/modules/${key}.js`);
    side.name = module.name;
    say(`${side.name}: loading`);
    const opened = await module.open(options, text => say(`${side.name}: ${text}`));
    return Object.assign(side, opened);
  } catch (error) {
    console.error(error);
    side.failure = adviceFor(key, options, error);
    return side;
  }
}

function adviceFor(key, {onnx, mlc}, {message}) {
  if (key === 'ours' || !SIDES.includes(key) || /not installed/.test(message)) return message;
  const model = key === 'transformers' ? onnx : mlc;
  return `could not load ${model}: ${message}. It is downloaded from a hub when it is first used; see README.md.`;
}

/** One turn. A side that fails has no more turns. */
async function turn(side, text, tokens) {
  try {
    return await side.run(text, tokens);
  } catch (error) {
    console.error(error);
    side.failure = `failed while it ran: ${error.message}`;
    side.runs = [];
    return undefined;
  }
}

async function measure(options) {
  if (!navigator.gpu) throw new Error('This browser has no WebGPU, or the page is not from localhost or https.');
  const [tokens, rounds, words] = ['tokens', 'rounds', 'words'].map(name => Number(options[name]));
  const text = promptOf(words);
  const sides = [];
  for (const key of options.sides.split(',')) sides.push(await open(key.trim(), options));
  const working = () => sides.filter(({failure}) => !failure);
  const copySpeeds = [];
  const copy = async () => {
    say('a plain copy');
    const speed = await working()
      .find(({copySpeed}) => copySpeed)
      ?.copySpeed();
    if (speed) copySpeeds.push(speed);
  };
  for (const side of working()) {
    say(`${side.name}: warming up`);
    await turn(side, text, Math.min(tokens, 16));
  }
  await copy();
  for (let round = 0; round < rounds; round++) {
    for (const side of working()) {
      say(`round ${round + 1} of ${rounds}: ${side.name}`);
      const result = await turn(side, text, tokens);
      if (result) side.runs.push(result);
    }
  }
  await copy();
  for (const side of working()) {
    say(`counting: ${side.name}`);
    let run;
    const counts = await countCalls(async () => (run = await turn(side, text, tokens)));
    if (run) side.counts = {...counts, tokens: run.tokens};
  }
  return reportOf(sides, copySpeeds, {words, tokens});
}

async function start() {
  form.querySelector('button').disabled = true;
  const report = await measure(Object.fromEntries(new FormData(form))).catch(error => `failed: ${error.message}`);
  document.querySelector('#report').textContent = report;
  say('done');
  form.querySelector('button').disabled = false;
  // For scripts that have opened the page.
  globalThis.outcome = report;
}

form.addEventListener('submit', event => {
  event.preventDefault();
  void start();
});
if (given.has('start')) await start();

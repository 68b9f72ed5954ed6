/**
 * Speed of the backend `simd` in three situations: a quiet machine, another process that keeps one core busy, and more
 * threads than cores. Prints Markdown.
 *
 *     node bench/threads.mjs [PRESET] [--before DIR]
 *
 * `--before` names the `dist` folder of another build. Each build has its own process, and they alternate.
 */
import {fork, spawn} from 'node:child_process';
import {once} from 'node:events';
import {availableParallelism, cpus} from 'node:os';
import {resolve} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';

const HELP = `Usage: node bench/threads.mjs [PRESET] [options]

  PRESET             a Keras preset of a Gemma 3         (models/gemma3_270m)
  --before DIR       the dist folder of another build
  --dtypes A,B       bfloat16, int8, int4                (all of them)
  --situations A,B   quiet, busy, crowded                (all of them)
  --threads N        threads in the first two situations (2)
  --crowd N          threads in the third one            (twice the number of cores)
  --rounds N         measurements of each build          (5)
  --tokens N         new tokens per measurement          (48)
  --prompt N         tokens of the long prompt           (512)`;

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const pause = ms => new Promise(done => setTimeout(done, ms));

/** In a separate process: loads the model, then measures on request. */
async function serve({dist, preset, dtype, threads}) {
  const {Gemma3CausalLM, useBackend} = await import(pathToFileURL(resolve(dist, 'node/index.js')));
  await useBackend('simd', {threads});
  const lm = await Gemma3CausalLM.fromPreset(preset, {preprocessor: null, dtype});
  const ids = count => Array.from({length: count}, (_, i) => 1000 + ((i * 7919) % 50000));
  const seconds = async (prompt, count) => {
    const steps = [];
    let start = performance.now();
    for await (const tokens of lm.steps([{tokens: ids(prompt)}], {maxLength: prompt + count, stopTokenIds: null})) {
      void tokens;
      steps.push((performance.now() - start) / 1000);
      start = performance.now();
    }
    return steps;
  };
  process.on('message', async ({tokens, prompt}) => {
    const [, ...steps] = await seconds(16, tokens + 1);
    const [first] = await seconds(prompt, 1);
    process.send({speed: tokens / steps.reduce((a, b) => a + b, 0), prompt: first});
  });
  process.send({ready: true});
}

async function startServer(settings) {
  const child = fork(fileURLToPath(import.meta.url), [], {env: {...process.env, SETTINGS: JSON.stringify(settings)}});
  await once(child, 'message');
  return {
    async measure(options) {
      child.send(options);
      const [result] = await once(child, 'message');
      return result;
    },
    end: () => child.kill(),
  };
}

/** Runs a function while another process keeps one core busy. */
async function besideBusyProcess(run) {
  const busy = spawn(process.execPath, ['-e', 'for (;;);'], {stdio: 'ignore'});
  try {
    await pause(300);
    return await run();
  } finally {
    busy.kill('SIGKILL');
  }
}

const number = (value, digits = 1) => value.toFixed(digits);

async function main() {
  const {positionals, values} = parseArgs({
    allowPositionals: true,
    options: {
      before: {type: 'string'},
      dtypes: {type: 'string', default: 'bfloat16,int8,int4'},
      situations: {type: 'string', default: 'quiet,busy,crowded'},
      threads: {type: 'string', default: '2'},
      crowd: {type: 'string', default: String(2 * availableParallelism())},
      rounds: {type: 'string', default: '5'},
      tokens: {type: 'string', default: '48'},
      prompt: {type: 'string', default: '512'},
      help: {type: 'boolean'},
    },
  });
  if (values.help) return console.log(HELP);
  const [preset = 'models/gemma3_270m'] = positionals;
  const [threads, crowd, rounds, tokens, prompt] = ['threads', 'crowd', 'rounds', 'tokens', 'prompt'].map(name =>
    Number(values[name]),
  );
  const builds = values.before ? {before: values.before, after: DIST} : {after: DIST};
  const situations = {
    quiet: {title: `quiet, ${threads} threads`, threads, around: run => run()},
    busy: {title: `one busy process, ${threads} threads`, threads, around: besideBusyProcess},
    crowded: {title: `quiet, ${crowd} threads`, threads: crowd, around: run => run()},
  };

  console.log(
    `${cpus()[0].model}, ${availableParallelism()} cores, Node ${process.versions.node}. Medians of ${rounds}.\n`,
  );
  const columns = values.before
    ? ['tokens/s before', 'after', 'ratio (range)', `${prompt} tokens before, s`, 'after', 'ratio (range)']
    : ['tokens/s', `${prompt} tokens, s`];
  console.log(`| weights | situation | ${columns.join(' | ')} |\n| --- | --- |${' ---: |'.repeat(columns.length)}`);
  for (const dtype of values.dtypes.split(',')) {
    const servers = {};
    const serverOf = async (build, threads) =>
      (servers[`${build} ${threads}`] ??= await startServer({dist: builds[build], preset, dtype, threads}));
    const results = {};
    const chosen = values.situations.split(',').map(name => situations[name]);
    // The first measurement lets V8 compile everything, and is not counted.
    for (const {threads} of chosen) {
      for (const build of Object.keys(builds)) await (await serverOf(build, threads)).measure({tokens: 8, prompt: 64});
    }
    for (let round = 0; round < rounds; round++) {
      for (const {title, threads, around} of chosen) {
        await around(async () => {
          // Every other round begins with the other build.
          const order = Object.keys(builds);
          if (round % 2) order.reverse();
          for (const build of order) {
            const result = await (await serverOf(build, threads)).measure({tokens, prompt});
            ((results[title] ??= {})[build] ??= []).push(result);
          }
        });
      }
    }
    for (const server of Object.values(servers)) server.end();
    for (const {title} of chosen) console.log(`| ${dtype} | ${title} | ${row(results[title]).join(' | ')} |`);
  }
}

function row({before, after}) {
  const of = (runs, key, digits) => number(median(runs.map(run => run[key])), digits);
  if (!before) return [of(after, 'speed'), of(after, 'prompt', 2)];
  const ratio = (key, better) => {
    const ratios = before.map((run, i) => (better === 'more' ? after[i][key] / run[key] : run[key] / after[i][key]));
    return `${number(median(ratios), 2)} (${number(Math.min(...ratios), 2)} to ${number(Math.max(...ratios), 2)})`;
  };
  return [
    ...[of(before, 'speed'), of(after, 'speed'), ratio('speed', 'more')],
    ...[of(before, 'prompt', 2), of(after, 'prompt', 2), ratio('prompt', 'less')],
  ];
}

if (process.env.SETTINGS) await serve(JSON.parse(process.env.SETTINGS));
else await main();

/**
 * The vision encoder of Gemma 3 4B alone, with random weights: an image of 896 × 896 pixels becomes 4,096 patches of
 * width 1,152. Prints the time of a layer and of the whole encoder, and the share of each kind of kernel.
 *
 *     node bench/vision.mjs [--layers 27] [--threads 2] [--runs 5] [--dtype float32] [--before DIR]
 *
 * All layers are alike, so a few of them are enough to estimate the total time. `--before` names the `dist` folder of
 * another build, which alternates with this one, in a separate process.
 */
import {fork} from 'node:child_process';
import {once} from 'node:events';
import {cpus} from 'node:os';
import {resolve} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const {values} = parseArgs({
  options: {
    layers: {type: 'string', default: '27'},
    threads: {type: 'string', default: '2'},
    runs: {type: 'string', default: '5'},
    dtype: {type: 'string', default: 'float32'},
    before: {type: 'string'},
  },
});
const [layers, threads, runs] = ['layers', 'threads', 'runs'].map(name => Number(values[name]));
const SHAPE = {
  ...{imageSize: 896, patchSize: 14, numHeads: 16, hiddenDim: 1152, intermediateDim: 4304, outputDim: 2560},
  ...{poolSize: 4, layerNormEpsilon: 1e-6},
};
const PATCHES = (SHAPE.imageSize / SHAPE.patchSize) ** 2;
/** Of the products of a layer, attention's included. */
const LAYER_FLOPS = 2 * PATCHES * SHAPE.hiddenDim * (4 * SHAPE.hiddenDim + 2 * SHAPE.intermediateDim + 2 * PATCHES);
/** Numbers of commands: see `assembly/numbers.ts`. */
const COMMANDS = {4: 'products', 10: 'attention', 19: 'norms', 23: 'gelu', 25: 'sums'};

/** In a separate process: creates the encoder, then runs it on request. */
async function serve(dist) {
  const {Gemma3VisionEncoder, useBackend} = await import(pathToFileURL(resolve(dist, 'node/index.js')));
  const tf = await import('@tensorflow/tfjs');
  await useBackend('simd', {threads});
  const encoder = new Gemma3VisionEncoder({...SHAPE, numLayers: layers, dtype: values.dtype});
  const images = tf.randomUniform([1, 1, SHAPE.imageSize, SHAPE.imageSize, 3], -1, 1, 'float32', 7);
  const {engine} = tf.backend();
  let spent = {};
  const run = engine.run.bind(engine);
  engine.run = (command, ...rest) => {
    const start = performance.now();
    run(command, ...rest);
    const name = COMMANDS[command] ?? 'other';
    spent[name] = (spent[name] ?? 0) + (performance.now() - start) / 1000;
  };
  process.on('message', async () => {
    spent = {};
    const start = performance.now();
    const y = encoder.predict(images);
    const data = await y.data();
    const seconds = (performance.now() - start) / 1000;
    y.dispose();
    process.send({seconds, spent, finite: data.every(Number.isFinite), peak: process.resourceUsage().maxRSS * 1024});
  });
  process.send({ready: true});
}

async function start(dist) {
  const child = fork(fileURLToPath(import.meta.url), process.argv.slice(2), {env: {...process.env, DIST: dist}});
  await once(child, 'message');
  return {
    async run() {
      child.send({});
      const [result] = await once(child, 'message');
      if (!result.finite) throw new Error('Expected only finite values.');
      return result;
    },
    end: () => child.kill(),
  };
}

async function main() {
  const builds = values.before ? {before: values.before, now: DIST} : {now: DIST};
  const servers = Object.fromEntries(
    await Promise.all(Object.entries(builds).map(async ([name, dist]) => [name, await start(dist)])),
  );
  const results = Object.fromEntries(Object.keys(builds).map(name => [name, []]));
  // The first run creates the weights, and is not counted.
  for (let i = 0; i <= runs; i++) {
    for (const name in servers) {
      const result = await servers[name].run();
      if (i > 0) results[name].push(result);
    }
  }
  for (const server of Object.values(servers)) server.end();
  console.log(
    `${cpus()[0].model}, Node ${process.versions.node}, ${values.dtype}, ${layers} layers, ${threads} threads. ` +
      `Medians of ${runs}.\n`,
  );
  const kinds = Object.keys(results.now[0].spent);
  const line = cells => console.log(`| ${cells.join(' | ')} |`);
  line(['Build', 's', 's a layer', 'GFLOP/s', ...kinds.map(kind => `${kind}, s`), 'peak, MB']);
  line(['---', ...kinds.map(() => '---:'), '---:', '---:', '---:', '---:']);
  for (const [name, all] of Object.entries(results)) {
    const of = value => median(all.map(value));
    const seconds = of(result => result.seconds);
    line([
      name,
      seconds.toFixed(2),
      (seconds / layers).toFixed(3),
      ((layers * LAYER_FLOPS) / seconds / 1e9).toFixed(0),
      ...kinds.map(kind => of(result => result.spent[kind] ?? 0).toFixed(2)),
      Math.round(of(result => result.peak) / 1e6),
    ]);
  }
  if (values.before) {
    const ratios = results.now.map(({seconds}, i) => results.before[i].seconds / seconds).sort((a, b) => a - b);
    console.log(`\nRatio: ${median(ratios).toFixed(2)} (${ratios[0].toFixed(2)} to ${ratios.at(-1).toFixed(2)}).`);
  }
}

if (process.env.DIST) await serve(process.env.DIST);
else await main();

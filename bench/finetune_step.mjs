/**
 * A step of fine-tuning, LoRA of rank 4 on queries and values, Adam, fixed random tokens: this package against KerasHub on
 * JAX on the same weights, in turn, each round in processes of their own. Time of a step, and the most memory a process held.
 *
 *     PYTHON=… node bench/finetune_step.mjs [--preset DIR] [--rounds 2] [--steps 3] [--shapes 4x128,1x256] [--no-keras]
 */
import {spawnSync} from 'node:child_process';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';

const here = name => fileURLToPath(new URL(name, import.meta.url));

/** Tokens that Python makes as well: token i of a batch. */
const tokens = count => Int32Array.from({length: count}, (_, i) => 1000 + ((i * 7919 + (i >> 3) * 104729) % 200000));

async function ours({preset, dtype, batch, length, steps}) {
  const tf = await import('@tensorflow/tfjs');
  const {Gemma3CausalLM, useBackend} = await import('../dist/node/index.js');
  await useBackend('simd');
  const lm = await Gemma3CausalLM.fromPreset(preset, {preprocessor: null, dtype});
  lm.backbone.enableLora(4);
  lm.compile({optimizer: tf.train.adam(5e-5)});
  const ids = tokens(batch * (length + 1));
  const rows = from =>
    Array.from({length: batch}, (_, b) => [...ids.subarray(b * (length + 1) + from).subarray(0, length)]);
  const x = {
    token_ids: tf.tensor2d(rows(0), [batch, length], 'int32'),
    padding_mask: tf.ones([batch, length], 'int32'),
  };
  const y = tf.tensor2d(rows(1), [batch, length], 'int32');
  const [times, losses] = [[], []];
  for (let step = 0; step <= steps; step++) {
    const start = performance.now();
    losses.push(await lm.trainOnBatch(x, y));
    times.push(performance.now() - start);
  }
  // The first step compiles.
  return {times: times.slice(1), losses, peak: process.resourceUsage().maxRSS * 1024};
}

function run(command, script, options) {
  const {status, stdout} = spawnSync(command, [here(script)], {
    env: {...process.env, FINETUNE_STEP: JSON.stringify(options)},
    stdio: ['ignore', 'pipe', process.env.VERBOSE ? 'inherit' : 'ignore'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${command} ${script} failed. VERBOSE=1 shows what it says.`);
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

if (process.env.FINETUNE_STEP) {
  console.log(JSON.stringify(await ours(JSON.parse(process.env.FINETUNE_STEP))));
} else {
  const {values} = parseArgs({
    options: {
      preset: {type: 'string', default: 'models/gemma3_270m'},
      rounds: {type: 'string', default: '2'},
      steps: {type: 'string', default: '3'},
      shapes: {type: 'string', default: '4x128,1x256'},
      keras: {type: 'boolean', default: true},
    },
    allowNegative: true,
  });
  const {preset} = values;
  const python = process.env.PYTHON ?? 'python3';
  const sides = [
    ...(values.keras ? [['KerasHub on JAX, float32', python, './finetune_step.py', 'float32']] : []),
    ['this package, float32', process.execPath, './finetune_step.mjs', 'float32'],
    ['this package, bfloat16 at rest', process.execPath, './finetune_step.mjs', 'bfloat16'],
  ];
  console.log(
    '| batch | | ms a step | fastest | peak MB | loss of the first and the last step |\n|---|---|---|---|---|---|',
  );
  for (const shape of values.shapes.split(',')) {
    const [batch, length] = shape.split('x').map(Number);
    const results = sides.map(() => []);
    for (let round = 0; round < Number(values.rounds); round++) {
      for (const [i, [, command, script, dtype]] of sides.entries()) {
        results[i].push(run(command, script, {preset, dtype, batch, length, steps: Number(values.steps)}));
      }
    }
    for (const [i, [name]] of sides.entries()) {
      const times = results[i].flatMap(result => result.times);
      const peak = Math.max(...results[i].map(result => result.peak));
      const {losses} = results[i][0];
      const numbers = [median(times), Math.min(...times), peak / 1e6].map(n => n.toFixed(0));
      console.log(
        `| ${batch} × ${length} | ${name} | ${numbers.join(' | ')} | ${losses[0].toFixed(4)}, ${losses.at(-1).toFixed(4)} |`,
      );
    }
  }
}

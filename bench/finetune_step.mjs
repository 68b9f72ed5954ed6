/**
 * One step of fine-tuning (LoRA of rank 4 on queries and values, Adam): this package against KerasHub, on the same
 * weights. The sides alternate, each round in new processes. Measures the time per step and the peak memory.
 *
 * The data are fixed random tokens that all have weight 1 ("random"), or customers' orders to rewrite as JSON ("task"):
 * prompts, responses and padding from each side's own preprocessor. The losses of both sides must agree. NODE names the
 * program for `simd`, such as a newer Node.
 *
 *     PYTHON=… [NODE=…] node bench/finetune_step.mjs [--preset DIR] [--rounds 2] [--steps 3] [--shapes 4x128,1x256]
 *         [--no-keras] [--data random,task] [--backends simd,cuda] [--dtypes float32,bfloat16]
 *         [--keras-backends jax,tensorflow]
 */
import {spawnSync} from 'node:child_process';
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import {orders} from './finetune_orders.mjs';
import {median} from './peers/median.mjs';

const here = name => fileURLToPath(new URL(name, import.meta.url));

/** finetune_step.py computes the same token i of a batch, and the same value i of the LoRA matrix A. */
const tokens = count => Int32Array.from({length: count}, (_, i) => 1000 + ((i * 7919 + (i >> 3) * 104729) % 200000));
const matrixA = count => Float32Array.from({length: count}, (_, i) => Math.sin(i) / 10);

/** Maximum accepted difference between the losses of both sides. */
const TOLERANCE = 1e-4;

/** For each step: the arguments of `trainOnBatch`, the number of tokens with a weight, and of tokens in the model. */
async function batches(tf, lm, {batch, length, steps, texts}) {
  if (texts === null) {
    const ids = tokens(batch * (length + 1));
    const rows = from =>
      Array.from({length: batch}, (_, b) => [...ids.subarray(b * (length + 1) + from).subarray(0, length)]);
    const x = {
      token_ids: tf.tensor2d(rows(0), [batch, length], 'int32'),
      padding_mask: tf.ones([batch, length], 'int32'),
    };
    const y = tf.tensor2d(rows(1), [batch, length], 'int32');
    const size = batch * length;
    return Array.from({length: steps + 1}, () => ({args: [x, y], weighted: size, seen: size}));
  }
  const all = JSON.parse(readFileSync(texts, 'utf8'));
  return Promise.all(
    Array.from({length: steps + 1}, async (_, step) => {
      const [prompts, responses] = [all.prompts, all.responses].map(x => x.slice(step * batch, (step + 1) * batch));
      const {x, y, sampleWeight} = await lm.preprocessor.call({prompts, responses});
      const weighted = (await sampleWeight.data()).reduce((sum, weight) => sum + weight, 0);
      tf.dispose([x, y, sampleWeight]);
      const seen = batch * Math.max(...lm.preprocessor.packedLengths({prompts, responses}));
      return {args: [{prompts, responses}], weighted, seen};
    }),
  );
}

async function ours({preset, dtype, backend, ...options}) {
  const tf = await import('@tensorflow/tfjs');
  const {Gemma3CausalLM, Gemma3CausalLMPreprocessor, optimizers, useBackend} = await import('../dist/node/index.js');
  await useBackend(backend);
  const preprocessor =
    options.texts === null
      ? null
      : await Gemma3CausalLMPreprocessor.fromPreset(preset, {sequenceLength: options.length});
  const lm = await Gemma3CausalLM.fromPreset(preset, {preprocessor, dtype});
  lm.backbone.enableLora(4);
  for (const weight of lm.trainableWeights) {
    if (!weight.originalName.endsWith('_a')) continue;
    tf.tidy(() => weight.write(tf.tensor(matrixA(tf.util.sizeFromShape(weight.shape)), weight.shape)));
  }
  lm.compile({optimizer: new optimizers.Adam({learningRate: 5e-5})});
  const inputs = await batches(tf, lm, options);
  const [times, losses] = [[], []];
  for (const {args} of inputs) {
    const start = performance.now();
    losses.push(await lm.trainOnBatch(...args));
    times.push(performance.now() - start);
  }
  const [weighted, seen] = ['weighted', 'seen'].map(name => inputs.map(step => step[name]));
  return {times, losses, weighted, seen, peak: process.resourceUsage().maxRSS * 1024};
}

function run(command, script, options) {
  const {status, stdout} = spawnSync(command, [here(script)], {
    env: {...process.env, FINETUNE_STEP: JSON.stringify(options)},
    stdio: ['ignore', 'pipe', process.env.VERBOSE ? 'inherit' : 'ignore'],
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`${command} ${script} failed. Set VERBOSE=1 to see its output.`);
  const {times, weighted, seen, ...rest} = JSON.parse(stdout.trim().split('\n').at(-1));
  // The first step compiles.
  return {...rest, times: times.slice(1), weighted: weighted.slice(1), seen: seen.slice(1)};
}

/** Largest difference between two lists. */
const difference = (a, b) => Math.max(...a.map((value, i) => Math.abs(value - b[i])));

function main() {
  const {values} = parseArgs({
    options: {
      preset: {type: 'string', default: 'models/gemma3_270m'},
      rounds: {type: 'string', default: '2'},
      steps: {type: 'string', default: '3'},
      shapes: {type: 'string', default: '4x128,1x256'},
      data: {type: 'string', default: 'random,task'},
      keras: {type: 'boolean', default: true},
      backends: {type: 'string', default: 'simd'},
      dtypes: {type: 'string', default: 'float32,bfloat16'},
      'keras-backends': {type: 'string', default: 'jax'},
    },
    allowNegative: true,
  });
  const {preset} = values;
  const steps = Number(values.steps);
  const {PYTHON: python = 'python3', NODE: node = process.execPath} = process.env;
  const sides = [
    ...(values.keras
      ? values['keras-backends'].split(',').map(backend => ({
          name: `KerasHub on ${{jax: 'JAX', tensorflow: 'TensorFlow'}[backend]}, float32`,
          ...{command: python, script: './finetune_step.py', dtype: 'float32', backend},
        }))
      : []),
    ...values.backends.split(',').flatMap(backend =>
      values.dtypes.split(',').map(dtype => ({
        name: `this package, ${backend}, stored as ${dtype}`,
        ...{command: backend === 'simd' ? node : process.execPath, script: './finetune_step.mjs', dtype, backend},
      })),
    ),
  ];
  const folder = mkdtempSync(join(tmpdir(), 'finetune-'));
  const file = join(folder, 'orders.json');
  try {
    console.log(
      '| data, batch | | ms per step | fastest | peak MB | tokens with a weight | tokens in the model | ' +
        'first and last loss | difference |\n' +
        '|---|---|---|---|---|---|---|---|---|',
    );
    const cases = values.data.split(',').flatMap(data => values.shapes.split(',').map(shape => [data, shape]));
    for (const [data, shape] of cases) {
      const [batch, length] = shape.split('x').map(Number);
      writeFileSync(file, JSON.stringify(orders(batch * (steps + 1))));
      const options = {preset, batch, length, steps, texts: data === 'task' ? file : null};
      const results = sides.map(() => []);
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const [i, {command, script, dtype, backend}] of sides.entries()) {
          results[i].push(run(command, script, {...options, dtype, backend}));
        }
      }
      for (const [i, {name}] of sides.entries()) {
        const times = results[i].flatMap(result => result.times);
        const peak = Math.max(...results[i].map(result => result.peak));
        const {losses, weighted, seen} = results[i][0];
        const numbers = [median(times), Math.min(...times), peak / 1e6].map(n => n.toFixed(0));
        const counts = [weighted, seen].map(list => `${Math.round(median(list))} of ${batch * length}`);
        const lossDifference = difference(losses, results[0][0].losses);
        if (lossDifference > TOLERANCE) process.exitCode = 1;
        const verdict = `${lossDifference.toExponential(0)}${lossDifference > TOLERANCE ? ', too large' : ''}`;
        console.log(
          `| ${data}, ${batch} × ${length} | ${name} | ${numbers.join(' | ')} | ${counts.join(' | ')} | ` +
            `${losses[0].toFixed(4)}, ${losses.at(-1).toFixed(4)} | ${i === 0 ? '' : verdict} |`,
        );
      }
    }
  } finally {
    rmSync(folder, {recursive: true});
  }
}

if (process.env.FINETUNE_STEP) console.log(JSON.stringify(await ours(JSON.parse(process.env.FINETUNE_STEP))));
else main();

/**
 * Many short generations and training steps on the backend `cuda`: neither tensors of tfjs nor handles of TensorFlow may
 * grow. Exits with 1 if they do. Needs a build, `npm run build`, and `gemma3 setup-cuda`, with or without `--cpu`.
 *
 *     node bench/cuda_leaks.mjs [--generations 1000] [--steps 200]
 */
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import * as gemma3 from '../dist/node/index.js';
import {narrowModel} from './webgpu_model.mjs';

const {values} = parseArgs({
  options: {generations: {type: 'string', default: '1000'}, steps: {type: 'string', default: '200'}},
});
await gemma3.useBackend('cuda');

const memory = () => ({
  tensors: tf.memory().numTensors,
  handles: tf.backend().binding.getNumOfTensors(),
  megabytes: Math.round(process.memoryUsage().rss / 1e6),
});

let failed = false;
/** Runs `work` many times, and prints the memory ten times. In the second half it must not be more than in the first. */
async function repeat(what, count, work) {
  const lines = [];
  for (let i = 0; i < count; i++) {
    await work(i);
    if ((i + 1) % Math.ceil(count / 10) === 0) lines.push({[what]: i + 1, ...memory()});
  }
  console.table(lines);
  const most = (some, key) => Math.max(...some.map(line => line[key]));
  const grown = ['tensors', 'handles'].filter(key => most(lines.slice(5), key) > most(lines.slice(0, 5), key));
  if (grown.length > 0) console.log(`${what}: ${grown.join(', ')} grew.`);
  failed ||= grown.length > 0;
}

const {samplers} = gemma3;
const SAMPLERS = [
  () => 'greedy',
  seed => new samplers.RandomSampler({seed}),
  seed => new samplers.TopKSampler({k: 5, seed, repetitionPenalty: 1.2}),
  seed => new samplers.TopPSampler({p: 0.5, seed}),
  () => new samplers.BeamSampler({numBeams: 2}),
  () => new samplers.ContrastiveSampler({k: 3, alpha: 0.4}),
];

for (const dtype of ['float32', 'bfloat16']) {
  const lm = narrowModel(gemma3, 'small', dtype);
  await repeat(`generations, ${dtype}`, Number(values.generations) / 2, async i => {
    const ids = tf.tensor2d([[2, 5, 9 + (i % 50), 7, 0, 0, 0, 0]], [1, 8], 'int32');
    const mask = tf.tensor2d([[1, 1, 1, 1, 0, 0, 0, 0]], [1, 8], 'bool');
    lm.compile({sampler: SAMPLERS[i % SAMPLERS.length](i)});
    const out = await lm.generate({token_ids: ids, padding_mask: mask}, {stopTokenIds: null});
    tf.dispose([ids, mask, out.token_ids, out.padding_mask]);
  });
  lm.dispose();
}
for (const [dtype, rank] of [
  ['float32', null],
  ['bfloat16', 2],
]) {
  const lm = narrowModel(gemma3, 'small', dtype);
  if (rank) lm.backbone.enableLora(rank);
  const optimizer = new gemma3.optimizers.Adam({learningRate: 1e-3});
  lm.compile({optimizer, sampler: 'greedy'});
  await repeat(`training steps, ${rank ? 'LoRA over ' : ''}${dtype}`, Number(values.steps) / 2, async i => {
    const tokens = [2, 5, 9 + (i % 50), 7];
    const x = {token_ids: [tokens], padding_mask: [[1, 1, 1, 1]]};
    await lm.trainOnBatch(x, [[...tokens.slice(1), 1]], [[1, 1, 1, 1]]);
  });
  lm.dispose();
  optimizer.dispose();
}
process.exit(failed ? 1 : 0);

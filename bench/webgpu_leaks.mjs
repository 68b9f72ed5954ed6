/**
 * Many short generations and training steps on the backend `webgpu`: neither tensors nor bytes on the GPU may grow. Exits
 * with 1 if they do. Needs a build: `npm run build`.
 *
 *     node bench/webgpu_leaks.mjs [--generations 1000] [--steps 200] [--null]
 *
 * `--null` takes Dawn's null device, which computes nothing and needs no GPU.
 */
import {parseArgs} from 'node:util';
import {narrowModel, useNullDevice} from './webgpu_model.mjs';

const {values} = parseArgs({
  options: {
    generations: {type: 'string', default: '1000'},
    steps: {type: 'string', default: '200'},
    null: {type: 'boolean', default: false},
  },
});
if (values.null) await useNullDevice();
const gemma3 = await import('../dist/node/index.js');
const tf = await import('@tensorflow/tfjs');
await gemma3.useBackend('webgpu', {software: true});

const memory = () => {
  const {numTensors, numBytesInGPU, numBytesAllocatedInGPU} = tf.memory();
  return {numTensors, numBytesInGPU, numBytesAllocatedInGPU};
};

let failed = false;
/** Runs `work` many times, and prints the memory ten times. In the second half it must not exceed the first half's. */
async function repeat(what, count, work) {
  const lines = [];
  for (let i = 0; i < count; i++) {
    await work(i);
    if ((i + 1) % Math.ceil(count / 10) === 0) lines.push({[what]: i + 1, ...memory()});
  }
  console.table(lines);
  const most = (some, key) => Math.max(...some.map(line => line[key]));
  const grown = Object.keys(memory()).filter(key => most(lines.slice(5), key) > most(lines.slice(0, 5), key));
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

const before = memory();
for (const dtype of ['float32', 'int4']) {
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
  ['int4', 2],
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
const after = memory();
// A few tables of angles stay, whatever models there were.
console.log('before and after all models:', before, after);
process.exit(failed || after.numTensors > before.numTensors ? 1 : 0);

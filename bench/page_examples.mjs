/**
 * Both examples of https://keras.io/keras_hub/api/models/gemma3/gemma3_backbone/ at full size: a Gemma 3 of 4 billion
 * parameters in bfloat16 with random weights, over one row of 300 tokens, without an image and with one. Runs each in a
 * separate process and prints memory and time.
 *
 *     node bench/page_examples.mjs [text] [vision] [--threads 2]
 */
import {execFileSync} from 'node:child_process';
import {fileURLToPath} from 'node:url';
import {parseArgs} from 'node:util';
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3VisionEncoder, useBackend} from '../dist/node/index.js';

const {values, positionals} = parseArgs({
  allowPositionals: true,
  options: {threads: {type: 'string', default: '2'}, run: {type: 'string'}},
});

const repeat = (value, count) => Array.from({length: count}, () => value);
const SHAPE = {
  vocabularySize: 262144,
  imageSize: 896,
  numLayers: 34,
  numQueryHeads: 8,
  numKeyValueHeads: 4,
  hiddenDim: 2560,
  intermediateDim: 10240,
  headDim: 256,
  queryHeadDimNormalize: true,
  usePostFfwNorm: true,
  usePostAttentionNorm: true,
  finalLogitSoftCap: null,
  attentionLogitSoftCap: null,
  slidingWindowSize: 1024,
  useSlidingWindowAttention: true,
  layerNormEpsilon: 1e-6,
  dtype: 'bfloat16',
};

const examples = {
  text: () => ({
    backbone: new Gemma3Backbone({...SHAPE, visionEncoder: null}),
    inputs: {token_ids: [repeat(1, 300)], padding_mask: [[...repeat(1, 280), ...repeat(0, 20)]]},
  }),
  vision: () => ({
    backbone: new Gemma3Backbone({
      ...SHAPE,
      visionEncoder: new Gemma3VisionEncoder({
        imageSize: 896,
        patchSize: 14,
        numHeads: 16,
        hiddenDim: 1152,
        numLayers: 27,
        intermediateDim: 4304,
        outputDim: 2560,
        poolSize: 4,
        layerNormEpsilon: 1e-6,
        dtype: 'float32',
      }),
    }),
    inputs: {
      images: tf.ones([1, 1, 896, 896, 3]),
      token_ids: [repeat(1, 300)],
      vision_mask: [[...repeat(0, 30), ...repeat(1, 256), ...repeat(0, 14)]],
      vision_indices: [Array.from({length: 256}, (_, i) => 30 + i)],
      padding_mask: [[...repeat(1, 286), ...repeat(0, 14)]],
    },
  }),
};

async function run(name) {
  await useBackend('simd', {threads: Number(values.threads)});
  const {backbone, inputs} = examples[name]();
  const parameters = backbone.countParams();
  const seconds = [];
  let weights = 0;
  let finite = true;
  for (let i = 0; i < 2; i++) {
    const start = performance.now();
    const hidden = backbone.predict(inputs);
    finite &&= (await hidden.data()).every(Number.isFinite);
    hidden.dispose();
    seconds.push((performance.now() - start) / 1000);
    weights = tf.memory().numBytes;
  }
  const peak = process.resourceUsage().maxRSS * 1024;
  console.log(
    `${name}: ${(parameters / 1e9).toFixed(2)} billion parameters, ${Math.round(weights / 1e6)} MB of weights, peak ` +
      `${Math.round(peak / 1e6)} MB; ${seconds[0].toFixed(0)} s including the creation of the weights, ` +
      `then ${seconds[1].toFixed(1)} s. All values finite: ${finite ? 'yes' : 'no'}.`,
  );
}

if (values.run) {
  await run(values.run);
  process.exit(0);
}
for (const name of positionals.length ? positionals : Object.keys(examples)) {
  const args = [fileURLToPath(import.meta.url), '--run', name, '--threads', values.threads];
  execFileSync(process.execPath, args, {stdio: 'inherit'});
}

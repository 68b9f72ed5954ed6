/**
 * What JavaScript takes for a token on the backend `webgpu`, however fast the GPU is: the processor's time on Dawn's null
 * device, with all that Dawn and the garbage collector do. Models are narrow, with the layers of the real ones. Needs a
 * build: `npm run build`.
 *
 *     node bench/webgpu_javascript.mjs [--shapes 270m,1b] [--tokens 400]
 */
import {parseArgs} from 'node:util';
import {median} from './peers/median.mjs';
import {narrowModel, useNullDevice} from './webgpu_model.mjs';

const {values} = parseArgs({
  options: {
    shapes: {type: 'string', default: '270m,1b'},
    tokens: {type: 'string', default: '400'},
    dtype: {type: 'string', default: 'int4'},
  },
});
const tokens = Number(values.tokens);
const ROUNDS = 5;

/** Generates tokens, and returns what `clock` counted for each of those in the second half. */
export async function perToken(lm, tokens, clock) {
  const session = lm.startSession({maxLength: tokens + 8});
  const request = {prompts: [{tokens: [2, 5, 9]}], maxLength: tokens + 3, stopTokenIds: null, sampler: lm.sampler};
  let half = 0;
  let count = 0;
  for await (const {tokens: step} of session.steps(request)) {
    count += step.length;
    if (count === tokens >> 1) half = await clock();
  }
  const time = (await clock()) - half;
  session.dispose();
  return time / (count - (tokens >> 1));
}

/** Milliseconds, whatever else the machine does. */
const processorTime = () => {
  const {user, system} = process.cpuUsage();
  return (user + system) / 1000;
};

async function inNode() {
  await useNullDevice();
  const gemma3 = await import('../dist/node/index.js');
  await gemma3.useBackend('webgpu', {software: true});
  for (const shape of values.shapes.split(',')) {
    const lm = narrowModel(gemma3, shape, values.dtype);
    lm.compile({sampler: 'greedy'});
    const times = [];
    for (let round = 0; round <= ROUNDS; round++) times.push(await perToken(lm, tokens, processorTime));
    console.log(`Node ${process.version}, ${shape}: ${median(times.slice(1)).toFixed(3)} ms a token`);
    lm.dispose();
  }
}

await inNode();
process.exit(0);

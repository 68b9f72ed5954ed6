/**
 * The part of `check_weights.py` that runs the package: loads `.weights.h5` files into models, computes with them and
 * saves them again, by a list of steps in a JSON file, and prints the hidden states as JSON.
 *
 * Usage: node save_weights.mjs STEPS.json
 */
import {readFileSync} from 'node:fs';
import {Gemma3Backbone, Gemma3CausalLM, Gemma3TextEmbedder, useBackend} from '../../dist/node/index.js';
import {hiddenStates} from './hidden_states.mjs';

const CLASSES = {
  backbone: args => new Gemma3Backbone(args),
  causal_lm: args => new Gemma3CausalLM({backbone: new Gemma3Backbone(args)}),
  embedder: args => new Gemma3TextEmbedder({backbone: new Gemma3Backbone(args)}),
};

async function run({kind, make, lora, load, save, saveOptions, inputs}) {
  const model = CLASSES[kind](make);
  const backbone = model.backbone ?? model;
  if (lora) backbone.enableLora(lora);
  await model.loadWeights(load);
  const hidden = await hiddenStates(backbone, inputs);
  await model.saveWeights(save, saveOptions);
  return {hidden};
}

await useBackend();
const results = [];
for (const step of JSON.parse(readFileSync(process.argv[2], 'utf8'))) results.push(await run(step));
process.stdout.write(JSON.stringify(results));

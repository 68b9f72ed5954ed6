/**
 * The TypeScript side of `check_lora.py`, `check_peft.py` and `check_real_lora.py`: loads presets and LoRA weights,
 * computes with them and saves them, by a list of steps in a JSON file, and prints the results as JSON.
 *
 * Usage: node lora_steps.mjs STEPS.json
 */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, useBackend} from '../../dist/node/index.js';
import {hiddenStates} from './hidden_states.mjs';

/** Random matrices, since fresh LoRA matrices change nothing. */
function randomize(backbone, deviation = 0.3) {
  for (const weight of backbone.trainableWeights) {
    tf.tidy(() => weight.write(tf.randomNormal(weight.shape, 0, deviation)));
  }
}

const counts = ({trainableWeights, nonTrainableWeights}) => [trainableWeights.length, nonTrainableWeights.length];

async function run({make, preset, options, load, enable, inputs, saveLora, savePreset, savePeft, importPeft}) {
  const backbone = make ? new Gemma3Backbone(make) : await Gemma3Backbone.fromPreset(preset, options);
  if (make) {
    await backbone.saveToPreset(savePreset);
    backbone.dispose();
    return {};
  }
  if (load) await backbone.loadLoraWeights(load);
  if (importPeft) await backbone.importPeftAdapter(importPeft);
  if (enable) {
    backbone.enableLora(enable.rank, enable.options);
    randomize(backbone, enable.deviation);
  }
  const trainable = counts(backbone);
  const hidden = inputs && (await hiddenStates(backbone, inputs));
  if (saveLora) await backbone.saveLoraWeights(saveLora);
  if (savePeft) await backbone.exportPeftAdapter(savePeft);
  if (savePreset) await backbone.saveToPreset(savePreset);
  await backbone.mergeLora();
  const merged = inputs && (await hiddenStates(backbone, inputs));
  backbone.dispose();
  return {trainable, hidden, merged};
}

await useBackend();
const results = [];
for (const step of JSON.parse(readFileSync(process.argv[2], 'utf8'))) results.push(await run(step));
process.stdout.write(JSON.stringify(results));

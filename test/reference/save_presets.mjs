/**
 * The TypeScript side of `check_saved_presets.py`: loads presets, computes with them and saves them, by a list of
 * steps in a JSON file, and prints the results as JSON.
 *
 * Usage: node save_presets.mjs STEPS.json
 */
import {readFileSync} from 'node:fs';
import {Gemma3Backbone, Gemma3CausalLM, Gemma3TextEmbedder, useBackend} from '../../dist/node/index.js';
import {hiddenStates} from './hidden_states.mjs';

async function embed({load, embedder: options, texts, save}) {
  const embedder = await Gemma3TextEmbedder.fromPreset(load, options);
  const vectors = await embedder.encodeText(texts);
  await embedder.saveToPreset(save);
  const hidden = Array.from(await vectors.data());
  vectors.dispose();
  embedder.dispose();
  return {hidden};
}

async function run({load, make, options = {}, save, saveOptions, inputs, prompts, maxLength}) {
  const preset = load && (await Gemma3CausalLM.fromPreset(load, prompts ? options : {...options, preprocessor: null}));
  const backbone = preset?.backbone ?? new Gemma3Backbone(make);
  const hidden = inputs && (await hiddenStates(backbone, inputs));
  const texts = prompts && (await preset.generate(prompts, {maxLength}));
  if (save) await (prompts ? preset : backbone).saveToPreset(save, saveOptions);
  (preset ?? backbone).dispose();
  return {hidden, texts};
}

await useBackend();
const results = [];
for (const step of JSON.parse(readFileSync(process.argv[2], 'utf8')))
  results.push(await (step.embedder ? embed(step) : run(step)));
process.stdout.write(JSON.stringify(results));

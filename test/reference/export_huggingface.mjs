/**
 * The TypeScript side of `check_huggingface.py`: converts presets to folders of Hugging Face, or exports loaded models, by a
 * list of steps in a JSON file, computes with them, and prints the results as JSON.
 *
 * Usage: node export_huggingface.mjs STEPS.json
 */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3CausalLM, Gemma3TextEmbedder, useBackend} from '../../dist/node/index.js';
import {hiddenStates} from './hidden_states.mjs';

async function embed({load, exportTo, options, texts}) {
  const embedder = await Gemma3TextEmbedder.fromPreset(load, {dtype: 'float32'});
  const vectors = await embedder.encodeText(texts);
  if (exportTo) await embedder.exportToTransformers(exportTo, options);
  const hidden = Array.from(await vectors.data());
  const ids = texts.map(text => embedder.preprocessor.packedTokens([text]));
  vectors.dispose();
  embedder.dispose();
  return {hidden, ids};
}

/** Hidden states of the inputs, and logits of the last token. */
async function compute({load, exportTo, options, inputs, texts}) {
  const lm = await Gemma3CausalLM.fromPreset(load, {dtype: 'float32', ...(texts ? {} : {preprocessor: null})});
  const hidden = await hiddenStates(lm.backbone, inputs);
  const {hiddenDim} = lm.backbone.config;
  const logits = tf.tidy(() => {
    const last = tf.tensor2d(hidden.slice(-hiddenDim), [1, hiddenDim]);
    return lm.backbone.tokenEmbedding.call(last, {reverse: true});
  });
  const result = {hidden, logits: Array.from(await logits.data())};
  logits.dispose();
  if (texts) result.ids = lm.preprocessor.tokenizer.tokenize(texts);
  if (exportTo) await lm.exportToTransformers(exportTo, options);
  lm.dispose();
  return result;
}

await useBackend();
const results = [];
for (const step of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  if (step.convertTo) await convertPreset(step.load, step.convertTo, {to: 'huggingface', ...step.options});
  results.push(step.inputs || step.texts ? await (step.embedder ? embed(step) : compute(step)) : {});
}
process.stdout.write(JSON.stringify(results));

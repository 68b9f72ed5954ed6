/**
 * The TypeScript side of `check_transformers.py`: writes folders of Hugging Face by a list of cases in a JSON file, computes
 * with the models, and prints the results as JSON.
 *
 * Usage: node check_transformers.mjs CASES.json
 */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {
  applyChatTemplate,
  convertPreset,
  Gemma3CausalLM,
  Gemma3TextEmbedder,
  useBackend,
} from '../../dist/node/index.js';

/** Ids of a prompt, and the logits after its last token. */
async function logitsOf(lm, prompt, sequenceLength) {
  const inputs = await lm.preprocessor.generatePreprocess(prompt, {sequenceLength});
  const ids = Array.from(await inputs.token_ids.data());
  const length = (await inputs.padding_mask.data()).reduce((sum, kept) => sum + kept, 0);
  const width = lm.backbone.config.hiddenDim;
  // One prompt is a row without a batch.
  const rows = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, tf.expandDims(value, 0)]));
  const hidden = lm.backbone.predict(rows);
  const logits = tf.tidy(() => {
    const last = tf.reshape(tf.slice(hidden, [0, length - 1, 0], [1, 1, width]), [1, width]);
    return lm.backbone.tokenEmbedding.call(last, {reverse: true});
  });
  const images = inputs.images ? Array.from(await inputs.images.data()) : null;
  const result = {ids: ids.slice(0, length), logits: Array.from(await logits.data()), images};
  tf.dispose([inputs, rows, hidden, logits]);
  return result;
}

async function language(preset, {texts, question, picture, tokens}) {
  const lm = await Gemma3CausalLM.fromPreset(preset, {dtype: 'float32'});
  const prompts = [];
  for (const text of texts) {
    const generated = await lm.generate(text, {maxNewTokens: tokens, stripPrompt: true});
    prompts.push({...(await logitsOf(lm, text, 64)), generated});
  }
  const messages = [{role: 'user', content: question}];
  const chat = applyChatTemplate(messages, {addGenerationPrompt: true});
  const answer = await lm.generate(messages, {maxNewTokens: tokens});
  const result = {prompts, chat, answer};
  if (picture) {
    const content = [
      {type: 'image', image: picture},
      {type: 'text', text: question},
    ];
    const seen = [{role: 'user', content}];
    result.picture = {...(await logitsOf(lm, seen, 256)), answer: await lm.generate(seen, {maxNewTokens: tokens})};
  }
  lm.dispose();
  return result;
}

async function embeddings(preset, {texts}) {
  const embedder = await Gemma3TextEmbedder.fromPreset(preset, {dtype: 'float32'});
  const vectors = await embedder.encodeText(texts);
  const result = {vectors: await vectors.array()};
  vectors.dispose();
  embedder.dispose();
  return result;
}

await useBackend();
const results = [];
for (const one of JSON.parse(readFileSync(process.argv[2], 'utf8'))) {
  await convertPreset(one.load, one.folder, {to: 'huggingface', ...one.options});
  // Weights that were rounded on the way are compared as they were written.
  const preset = one.options.dtype ? one.folder : one.load;
  results.push(await (one.embedder ? embeddings(preset, one) : language(preset, one)));
}
process.stdout.write(JSON.stringify(results));

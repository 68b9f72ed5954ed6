/**
 * Loads the folders of test/fixtures/huggingface, which versions of transformers saved, and compares with what transformers
 * computed: `node load_transformers.mjs FIXTURES`, in a folder where the package is installed. Prints the largest
 * difference of each, relative to the largest value.
 */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import {Gemma3Backbone, Gemma3TextEmbedder, useBackend} from 'tfjs-gemma3';

const fixtures = process.argv[2];
const ones = length => Array.from({length}, () => 1);

async function distance(output, expected) {
  const values = await output.data();
  output.dispose();
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (values.length !== expected.length)
    throw new Error(`Expected ${expected.length} values, received ${values.length}.`);
  return expected.reduce((most, value, i) => Math.max(most, Math.abs(value - values[i])), 0) / largest;
}

await useBackend();
for (const name of ['text', 'shards', 'text_4.51', 'vision', 'vision_4.51', 'vision_4.57']) {
  const folder = join(fixtures, name);
  const {ids, hidden, image} = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'));
  const backbone = await Gemma3Backbone.fromPreset(folder, {dtype: 'float32'});
  const prompt = tokens => ({token_ids: [tokens], padding_mask: [ones(tokens.length)]});
  const noImages = {
    images: {data: [], shape: [1, 0, 16, 16, 3]},
    vision_indices: {data: [], shape: [1, 0]},
    vision_mask: [ids.map(() => 0)],
  };
  const distances = [await distance(backbone.predict({...prompt(ids), ...(image && noImages)}), hidden)];
  if (image) {
    const isPlace = image.ids.map(id => Number(id === image.placeholder));
    const places = isPlace.flatMap((is, i) => (is ? [i] : []));
    const images = {data: image.pixels, shape: [1, 1, 16, 16, 3]};
    const inputs = {...prompt(image.ids), images, vision_indices: [places], vision_mask: [isPlace]};
    distances.push(await distance(backbone.predict(inputs), image.hidden));
  }
  console.log(name, backbone.countParams(), ...distances);
  backbone.dispose();
}
const folder = join(fixtures, 'embedder');
const {rows, embeddings} = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'));
const embedder = await Gemma3TextEmbedder.fromPreset(folder);
const distances = [];
for (const [i, row] of rows.entries()) {
  const output = embedder.predict({token_ids: [row], padding_mask: [ones(row.length)]});
  distances.push(await distance(output, embeddings[i]));
}
console.log('embedder', embedder.countParams(), ...distances);
embedder.dispose();

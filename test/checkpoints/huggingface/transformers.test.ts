/** Folders that versions of transformers saved: hidden states, logits and tokens are those of transformers. */
import * as tf from '@tensorflow/tfjs';
import {listPresetVariables} from '../../../src/checkpoints/load_weights';
import {openCheckpoint} from '../../../src/checkpoints/open_checkpoint';
import {Backbone} from '../../../src/models/backbone';
import {CausalLM} from '../../../src/models/causal_lm';
import {Gemma3Backbone} from '../../../src/models/gemma3/gemma3_backbone';
import {Gemma3CausalLM} from '../../../src/models/gemma3/gemma3_causal_lm';
import {Gemma3TextEmbedder} from '../../../src/models/gemma3/gemma3_text_embedder';
import {Task} from '../../../src/models/task';
import {fixture, fixtureJson} from '../../support/fixtures';

interface Expected {
  ids: number[];
  hidden: number[];
  logits: number[];
  greedy?: number[];
}

interface ImageExpected extends Expected {
  image: {ids: number[]; placeholder: number; pixels: number[]; hidden: number[]; logits: number[]};
}

const expectedOf = <T = Expected>(name: string) => fixtureJson<T>(`huggingface/${name}/expected.json`);
const folder = (name: string) => fixture(`huggingface/${name}`);

const TOLERANCE = 1e-4;

/** The values of a tensor, which is disposed. */
async function take(tensor: Promise<tf.Tensor2D>): Promise<number[][]> {
  const owned = await tensor;
  const values = await owned.array();
  owned.dispose();
  return values;
}

let tensors = 0;
beforeEach(() => (tensors = tf.memory().numTensors));
afterEach(() => expect(tf.memory().numTensors).toBe(tensors));

const prompt = (ids: readonly number[]) => ({
  token_ids: tf.tensor2d([[...ids]], [1, ids.length], 'int32'),
  padding_mask: tf.ones([1, ids.length], 'int32'),
});

/** Without images, for a model that takes them. */
const noImages = (length: number, size: number) => ({
  images: tf.zeros([1, 0, size, size, 3]),
  vision_indices: tf.zeros([1, 0], 'int32'),
  vision_mask: tf.zeros([1, length], 'int32'),
});

/** Hidden states of all tokens, and logits of the last. */
function run(lm: Gemma3CausalLM, inputs: Record<string, tf.Tensor>): [tf.Tensor, tf.Tensor] {
  return tf.tidy(() => {
    const hidden = lm.backbone.predict(inputs) as tf.Tensor3D;
    const [, length, width] = hidden.shape;
    const last = tf.reshape(tf.slice(hidden, [0, length - 1, 0], [1, 1, width]), [1, width]);
    return [tf.squeeze(hidden, [0]), lm.backbone.tokenEmbedding.call(last, {reverse: true}) as tf.Tensor];
  });
}

describe.each(['text', 'shards', 'text_4.51'])('%s', name => {
  test('hidden states, logits and greedy tokens', async () => {
    const {ids, hidden, logits, greedy} = expectedOf(name);
    // Float32, as transformers computed: bfloat16 weights are the same numbers either way.
    const lm = await Gemma3CausalLM.fromPreset(folder(name), {dtype: 'float32', preprocessor: null});
    const inputs = prompt(ids);
    const [ourHidden, ourLogits] = run(lm, inputs);
    expect(ourHidden).toBeAllClose(chunks(hidden, ids.length), {atol: TOLERANCE, rtol: TOLERANCE});
    expect(ourLogits).toBeAllClose([logits], {atol: TOLERANCE, rtol: TOLERANCE});
    const zeros = greedy!.map(() => 0);
    const padded = {
      token_ids: tf.tensor2d([[...ids, ...zeros]], undefined, 'int32'),
      padding_mask: tf.tensor2d([[...ids.map(() => 1), ...zeros]], undefined, 'int32'),
    };
    const out = await lm.generate(padded, {stopTokenIds: null});
    expect([...out.token_ids.dataSync()].slice(ids.length)).toEqual(greedy);
    tf.dispose([inputs, padded, {...out}, ourHidden, ourLogits]);
    lm.dispose();
  });
});

const chunks = (values: readonly number[], rows: number) =>
  Array.from({length: rows}, (_, i) => values.slice((i * values.length) / rows, ((i + 1) * values.length) / rows));

describe.each(['vision', 'vision_4.51', 'vision_4.57'])('%s', name => {
  test('hidden states and logits of text, and of text with an image', async () => {
    const expected = expectedOf<ImageExpected>(name);
    const {ids, hidden, logits, image} = expected;
    const lm = await Gemma3CausalLM.fromPreset(folder(name), {dtype: 'float32', preprocessor: null});
    const compare = (inputs: Record<string, tf.Tensor>, wantedHidden: number[], wantedLogits: number[]) => {
      const results = run(lm, inputs);
      const rows = inputs.token_ids!.shape[1]!;
      expect(results[0]).toBeAllClose(chunks(wantedHidden, rows), {atol: TOLERANCE, rtol: TOLERANCE});
      expect(results[1]).toBeAllClose([wantedLogits], {atol: TOLERANCE, rtol: TOLERANCE});
      tf.dispose([results, inputs]);
    };
    compare({...prompt(ids), ...noImages(ids.length, 16)}, hidden, logits);
    const places = image.ids.flatMap((id, i) => (id === image.placeholder ? [i] : []));
    const withImage = {
      ...prompt(image.ids),
      images: tf.tensor(image.pixels, [1, 1, 16, 16, 3]),
      vision_indices: tf.tensor2d([places], [1, places.length], 'int32'),
      vision_mask: tf.tensor2d([image.ids.map(id => Number(id === image.placeholder))], undefined, 'int32'),
    };
    compare(withImage, image.hidden, image.logits);
    lm.dispose();
  });

  test('the text model alone', async () => {
    const {ids, hidden} = expectedOf(name);
    const backbone = await Gemma3Backbone.fromPreset(folder(name), {dtype: 'float32', visionEncoder: null});
    const inputs = prompt(ids);
    const out = backbone.predict(inputs) as tf.Tensor;
    expect(out.dataSync()).toBeAllClose(hidden, {atol: TOLERANCE, rtol: TOLERANCE});
    tf.dispose([inputs, out]);
    backbone.dispose();
  });
});

test('embeddings of a model in the layout of sentence-transformers', async () => {
  const {rows, embeddings, ids, hidden} = expectedOf<{
    rows: number[][];
    embeddings: number[][];
    ids: number[];
    hidden: number[];
  }>('embedder');
  const embedder = await Gemma3TextEmbedder.fromPreset(folder('embedder'));
  expect(embedder.backbone.config).toMatchObject({
    isEmbeddingModel: true,
    useBidirectionalAttention: true,
    poolingIntermediateDim: 40,
    embeddingDim: 12,
    // Three tokens on both sides, as in transformers: KerasHub's 6 would be 2 on the left.
    slidingWindowSize: 7,
  });
  const query = await embedder.encodeText('the river', {promptName: 'query'});
  expect(query).toBeAllClose(await take(embedder.encodeText('task: search result | query: the river')), 0);
  await expect(embedder.encodeText('a', {promptName: 'title'})).rejects.toThrow(
    'one of query, document. Received: promptName="title"',
  );
  query.dispose();
  expect(embedder.preprocessor!.sequenceLength).toBe(128);
  for (const [i, row] of rows.entries()) {
    const inputs = prompt(row);
    const out = embedder.predict(inputs) as tf.Tensor;
    expect(out).toBeAllClose([embeddings[i]!], {atol: TOLERANCE});
    tf.dispose([inputs, out]);
  }
  const inputs = prompt(ids);
  const outputs = embedder.backbone.predict(inputs) as unknown as {sequence_output: tf.Tensor};
  expect(outputs.sequence_output.dataSync()).toBeAllClose(hidden, {atol: TOLERANCE, rtol: TOLERANCE});
  tf.dispose([inputs, ...Object.values(outputs)]);
  embedder.dispose();
});

test('the classes of a folder, from the base classes', async () => {
  const backbone = await Backbone.fromPreset(folder('text'));
  const lm = await CausalLM.fromPreset(folder('text'));
  const task = await Task.fromPreset(folder('embedder'));
  expect([backbone, lm, task].map(model => model.getClassName())).toEqual([
    'Gemma3Backbone',
    'Gemma3CausalLM',
    'Gemma3TextEmbedder',
  ]);
  for (const model of [backbone, lm, task]) model.dispose();
});

test('weights stay in the dtype of the folder', async () => {
  const dtypes = [];
  for (const name of ['text', 'shards', 'text_4.51']) {
    const backbone = await Gemma3Backbone.fromPreset(folder(name));
    dtypes.push(backbone.config.dtype);
    backbone.dispose();
  }
  expect(dtypes).toEqual(['bfloat16', 'float32', 'float16']);
});

test('variables are listed with the names and shapes of the files', async () => {
  const variables = await listPresetVariables(folder('shards'));
  expect(variables).toHaveLength(93);
  expect(variables.find(({path}) => path === 'model.layers.0.self_attn.q_proj.weight')).toEqual({
    path: 'model.layers.0.self_attn.q_proj.weight',
    shape: [32, 16],
    dtype: 'float32',
    bytes: 2048,
    file: 'model-00002-of-00003.safetensors',
  });
  const checkpoint = await openCheckpoint(folder('embedder'));
  const {variables: stored, layout, close} = await checkpoint.weights();
  expect(layout).toBe('single');
  expect(stored.get('2_Dense/linear.weight')).toMatchObject({shape: [40, 16], file: '2_Dense/model.safetensors'});
  await close();
});

/** The real Gemma 3 270M as a text embedder, against Python KerasHub in float32. */
import type * as tf from '@tensorflow/tfjs';
import {Gemma3TextEmbedder, type PoolingMode, useBackend} from '../../src';
import {take} from '../support/numbers';
import {readEmbedderOracle, REAL_PRESET} from './real_preset';

const {texts, tokenIds, pooling} = readEmbedderOracle();

beforeAll(async () => {
  await useBackend('simd');
});

describe.each(Object.keys(pooling) as PoolingMode[])('pooling: %s', poolingMode => {
  const {lengths, vectors, similarity} = pooling[poolingMode];
  const width = vectors[0]!.length;
  const starts = (all: number[][]) => all.flatMap(row => row.slice(0, width));

  test('encodes and compares texts as KerasHub', async () => {
    const embedder = await Gemma3TextEmbedder.fromPreset(REAL_PRESET, {poolingMode});
    expect(texts.map(text => embedder.preprocessor!.packedTokens([text]))).toEqual(tokenIds);
    const y = await embedder.encodeText(texts);
    expect(starts(await y.array())).toBeAllClose(vectors.flat(), {atol: 1e-5});
    expect(await take(embedder.similarity(y, y))).toBeAllClose(similarity.flat(), {atol: 1e-5});
    y.dispose();
    const rows = tokenIds.map(
      ids => embedder.predict({token_ids: [ids], padding_mask: [ids.map(() => 1)]}) as tf.Tensor2D,
    );
    expect(starts(rows.map(row => Array.from(row.dataSync())))).toBeAllClose(vectors.flat(), {atol: 1e-5});
    for (const row of rows) row.dispose();
    embedder.dispose();
  });

  test('leaves vectors as long as KerasHub does', async () => {
    const embedder = await Gemma3TextEmbedder.fromPreset(REAL_PRESET, {poolingMode, normalize: false});
    const y = await embedder.encodeText(texts);
    const ratios = (await y.array()).map((row, i) => Math.hypot(...row) / lengths[i]!);
    expect(ratios).toBeAllClose(new Array(ratios.length).fill(1), {atol: 1e-5});
    y.dispose();
    embedder.dispose();
  });
});

/** Every public layer in a plain tfjs model: its configuration, its JSON, and a folder with its weights. */
import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {CachedGemma3Attention, Gemma3DecoderBlock, Gemma3InterleaveEmbeddings, Gemma3VisionEncoder} from '../../../src';
import {
  Dense,
  EinsumDense,
  type Layer,
  LayerNormalization,
  ReversibleEmbedding,
  RMSNormalization,
  RotaryEmbedding,
} from '../../../src/public/layers';
import {take} from '../../support/numbers';

const folder = mkdtempSync(join(tmpdir(), 'layers-'));
afterAll(() => rmSync(folder, {recursive: true}));

const attention = {headDim: 4, numQueryHeads: 2, numKeyValueHeads: 1};
const vision = {imageSize: 8, patchSize: 2, numHeads: 2, hiddenDim: 6, numLayers: 1, intermediateDim: 8, outputDim: 8};

/** Shapes of inputs without the batch axis. */
const LAYERS: [string, (dtype: string) => Layer, tf.Shape[]][] = [
  ['Dense', dtype => new Dense({units: 3, dtype}), [[5, 8]]],
  ['EinsumDense', dtype => new EinsumDense({equation: 'abc,cd->abd', outputShape: [null, 6], dtype}), [[5, 8]]],
  ['LayerNormalization', dtype => new LayerNormalization({epsilon: 1e-5, dtype}), [[5, 8]]],
  ['RMSNormalization', dtype => new RMSNormalization({epsilon: 1e-5, dtype}), [[5, 8]]],
  ['RotaryEmbedding', dtype => new RotaryEmbedding({maxWavelength: 100, dtype}), [[5, 2, 8]]],
  ['ReversibleEmbedding', dtype => new ReversibleEmbedding({inputDim: 9, outputDim: 4, dtype}), [[5]]],
  ['CachedGemma3Attention', dtype => new CachedGemma3Attention({...attention, dtype}), [[5, 8]]],
  [
    'Gemma3DecoderBlock',
    dtype => new Gemma3DecoderBlock({...attention, hiddenDim: 8, intermediateDim: 12, dtype}),
    [[5, 8]],
  ],
  ['Gemma3VisionEncoder', dtype => new Gemma3VisionEncoder({...vision, poolSize: 2, dtype}), [[1, 8, 8, 3]]],
  [
    'Gemma3InterleaveEmbeddings',
    dtype => new Gemma3InterleaveEmbeddings({numVisionTokensPerImage: 2, dtype}),
    [[2, 8], [5, 8], [2]],
  ],
];

describe.each(LAYERS)('%s', (_, make, shapes) => {
  test.each(['float32', 'bfloat16'])('with weights stored as %s', async dtype => {
    const layer = make(dtype);
    const inputs = shapes.map(shape => tf.input({shape}));
    const outputs = layer.apply(inputs.length > 1 ? inputs : inputs[0]!) as tf.SymbolicTensor;
    const model = tf.model({inputs, outputs});
    const x = shapes.map(shape =>
      tf.tidy(() =>
        tf
          .randomUniform([1, ...shape] as number[], 0, 8)
          .floor()
          .div(4),
      ),
    );
    const feed = x.length > 1 ? x : x[0]!;
    const expected = await take(model.predict(feed) as tf.Tensor);

    const config = layer.getConfig();
    const same = (layer.constructor as typeof Layer & {fromConfig: (cls: unknown, config: object) => Layer}).fromConfig(
      layer.constructor,
      config,
    );
    expect(same.getConfig()).toEqual(config);

    const place = `file://${folder}/${layer.name}`;
    await model.save(place);
    const copy = await tf.loadLayersModel(`${place}/model.json`);
    // Layers with the same name in tfjs are loaded as tfjs layers, which round elsewhere.
    expect(await take(copy.predict(feed) as tf.Tensor)).toBeAllClose(expected, {atol: 1e-6});
    tf.dispose(x);
    for (const each of [model, copy]) each.dispose();
  });
});

/** Every public layer in plain tfjs models, between layers of tfjs: shapes, training, JSON, a folder with its weights. */
import {mkdtempSync, rmSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import * as gemma3 from '../../../src';
import {ValueError, type weights} from '../../../src';
import {LoraLayer} from '../../../src/layers/lora';
import {PackedWeight} from '../../../src/weights/packed_weight';
import {onEachBackend} from '../../support/backends';
import {expectNoLeak, take} from '../../support/numbers';

const {layers} = gemma3;
const folder = mkdtempSync(join(tmpdir(), 'layers-'));
afterAll(() => rmSync(folder, {recursive: true}));

const attention = {headDim: 4, numQueryHeads: 2, numKeyValueHeads: 1};
const image = {imageSize: 8, patchSize: 2};
const heads = {numHeads: 2, hiddenDim: 6};
const vision = {...image, ...heads, numLayers: 1, intermediateDim: 8};

interface Case {
  name: string;
  make: (dtype: weights.DtypeName) => tf.layers.Layer;
  /** Shapes of the inputs without the batch axis. `ids`: the last input holds positions, the only one token ids. */
  shapes: number[][];
  ids?: boolean;
  /** Rows of the output per row of the input. */
  rows?: number;
}

const CASES: Case[] = [
  {name: 'Dense', make: dtype => new layers.Dense({units: 3, activation: 'gelu_approximate', dtype}), shapes: [[5, 8]]},
  {
    name: 'EinsumDense',
    make: dtype => new layers.EinsumDense({equation: 'abc,cd->abd', outputShape: [null, 6], biasAxes: 'd', dtype}),
    shapes: [[5, 8]],
  },
  {name: 'LayerNormalization', make: dtype => new layers.LayerNormalization({epsilon: 1e-5, dtype}), shapes: [[5, 8]]},
  {name: 'RMSNormalization', make: dtype => new layers.RMSNormalization({epsilon: 1e-5, dtype}), shapes: [[5, 8]]},
  {name: 'UnitNormalization', make: dtype => new layers.UnitNormalization({axis: -1, dtype}), shapes: [[5, 8]]},
  {name: 'RotaryEmbedding', make: dtype => new layers.RotaryEmbedding({maxWavelength: 99, dtype}), shapes: [[5, 2, 8]]},
  {
    name: 'ReversibleEmbedding',
    make: dtype => new layers.ReversibleEmbedding({inputDim: 9, outputDim: 4, dtype}),
    shapes: [[5]],
    ids: true,
  },
  {
    name: 'CachedGemma3Attention',
    make: dtype => new gemma3.CachedGemma3Attention({...attention, useQueryKeyNorm: true, dtype}),
    shapes: [
      [5, 8],
      [5, 5],
    ],
    ids: true,
  },
  {
    name: 'Gemma3DecoderBlock',
    make: dtype => new gemma3.Gemma3DecoderBlock({...attention, hiddenDim: 8, intermediateDim: 12, dtype}),
    shapes: [[5, 8], [5]],
    ids: true,
  },
  {name: 'Gemma3MeanPooling', make: dtype => new gemma3.Gemma3MeanPooling({dtype}), shapes: [[5, 8], [5]], ids: true},
  {
    name: 'Gemma3InterleaveEmbeddings',
    make: dtype => new gemma3.Gemma3InterleaveEmbeddings({numVisionTokensPerImage: 2, dtype}),
    shapes: [[2, 8], [5, 8], [2]],
    ids: true,
  },
  {
    name: 'Gemma3VisionEmbedding',
    make: dtype => new gemma3.Gemma3VisionEmbedding({...image, hiddenDim: 6, dtype}),
    shapes: [[8, 8, 3]],
  },
  {name: 'Gemma3VisionAttention', make: dtype => new gemma3.Gemma3VisionAttention({...heads, dtype}), shapes: [[5, 6]]},
  {
    name: 'Gemma3VisionEncoderLayer',
    make: dtype => new gemma3.Gemma3VisionEncoderLayer({numHeads: 2, intermediateDim: 8, dtype}),
    shapes: [[5, 6]],
  },
  {
    name: 'Gemma3VisionEncoderBlock',
    make: dtype => new gemma3.Gemma3VisionEncoderBlock({...vision, dtype}),
    shapes: [[3, 8, 8, 3]],
    rows: 3,
  },
  {
    name: 'Gemma3VisionAveragePooling',
    make: dtype => new gemma3.Gemma3VisionAveragePooling({...image, poolSize: 2, dtype}),
    shapes: [[16, 6]],
  },
  {name: 'Gemma3VisionOutput', make: dtype => new gemma3.Gemma3VisionOutput({outputDim: 8, dtype}), shapes: [[4, 6]]},
  {
    name: 'Gemma3VisionEncoder',
    make: dtype => new gemma3.Gemma3VisionEncoder({...vision, outputDim: 8, poolSize: 2, dtype}),
    shapes: [[3, 8, 8, 3]],
    rows: 3,
  },
];

const BATCH = 2;

/** A model with the layer between two layers of tfjs, and input values for it. */
function surround(layer: tf.layers.Layer, {shapes, ids}: Case): {model: tf.LayersModel; feed: tf.Tensor[]} {
  const inputs = shapes.map(shape => tf.input({shape}));
  const first = inputs.map((input, i) =>
    ids && i === shapes.length - 1 ? input : (tf.layers.leakyReLU().apply(input) as tf.SymbolicTensor),
  );
  const y = layer.apply(first.length > 1 ? first : first[0]!) as tf.SymbolicTensor;
  const outputs = tf.layers.activation({activation: 'tanh'}).apply(y) as tf.SymbolicTensor;
  const feed = shapes.map((shape, i) =>
    tf.tidy(() => {
      const values = tf.randomUniform([BATCH, ...shape], -1, 1, 'float32', i + 1);
      return ids && i === shapes.length - 1 ? tf.floor(tf.mul(tf.abs(values), 4)) : values;
    }),
  );
  return {model: tf.model({inputs, outputs}), feed};
}

/** A seed that is left out is null in JSON. */
const inJson = (config: object): unknown => JSON.parse(JSON.stringify(config, (_, value: unknown) => value ?? null));

const one = <T>(values: T[]) => (values.length > 1 ? values : values[0]!);

onEachBackend(
  ({formats}) => {
    describe.each(CASES.map(c => [c.name, c] as const))('%s', (name, c) => {
      test.each(['float32' as const, ...formats])('with weights stored as %s', async dtype => {
        await expectNoLeak(async () => {
          const layer = c.make(dtype);
          expect(layer.getClassName()).toBe(name);
          expect((layer.constructor as unknown as {className: string}).className).toBe(name);
          const {model, feed} = surround(layer, c);
          const y = model.predict(one(feed)) as tf.Tensor;
          // What the graph says, the layer says, and the values have.
          const shape = layer.computeOutputShape(one(feed.map(x => x.shape as tf.Shape)));
          expect(shape).toEqual(y.shape);
          expect(model.outputs[0]!.shape.slice(1)).toEqual(y.shape.slice(1));
          expect(y.shape[0]).toBe(BATCH * (c.rows ?? 1));
          const expected = await take(y);

          const config = layer.getConfig();
          const {fromConfig} = layer.constructor as unknown as {
            fromConfig: (cls: unknown, config: object) => tf.layers.Layer;
          };
          const same = fromConfig.call(layer.constructor, layer.constructor, config);
          expect(same.getConfig()).toEqual(config);
          // Only a model is built when it is constructed; it then holds a reference to itself.
          if (same instanceof tf.LayersModel) same.dispose();

          const place = `file://${folder}/${dtype}-${layer.name}`;
          await model.save(place);
          const copy = await tf.loadLayersModel(`${place}/model.json`);
          const loaded = copy.layers.find(other => other.name === layer.name)!;
          expect(loaded).toBeInstanceOf(layer.constructor);
          expect(inJson(loaded.getConfig())).toEqual(inJson(config));
          const packed = (weights: tf.LayerVariable[]) => weights.map(weight => weight instanceof PackedWeight);
          expect(packed(loaded.weights)).toEqual(packed(layer.weights));
          expect(await take(copy.predict(one(feed)) as tf.Tensor)).toBeAllClose(expected, {atol: 1e-6});
          tf.dispose(feed);
          for (const each of [model, copy]) each.dispose();
        });
      });

      test('passes gradients to its weights and through it', async () => {
        await expectNoLeak(async () => {
          const layer = c.make('float32');
          const {model, feed} = surround(layer, c);
          const variables = layer.weights.map(weight => weight.read() as tf.Variable);
          const x = tf.variable(feed[0]!);
          const {grads, value} = tf.variableGrads(
            () =>
              tf.sum(
                tf.square(layer.apply(one(c.ids && feed.length === 1 ? feed : [x, ...feed.slice(1)])) as tf.Tensor),
              ),
            [...variables, ...(c.ids && feed.length === 1 ? [] : [x])],
          );
          for (const [weight, gradient] of Object.entries(grads)) {
            const largest = tf.tidy(() => tf.max(tf.abs(gradient)).arraySync()) as number;
            // tf.sum of squares does not depend on a shift of all logits of a query, which key biases are.
            if (!/key(_proj)?\/bias/.test(weight)) expect([weight, largest > 0]).toEqual([weight, true]);
          }
          tf.dispose([grads, value, feed, x]);
          model.dispose();
        });
      });
    });
  },
  {small: true},
);

describe('layers of tfjs and of this package with the same name', () => {
  const save = async (model: tf.LayersModel) => {
    let artifacts: tf.io.ModelArtifacts;
    await model.save(
      tf.io.withSaveHandler(async saved => {
        artifacts = saved;
        return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
      }),
    );
    return tf.loadLayersModel(tf.io.fromMemory(artifacts!));
  };

  test('are loaded as what they were', async () => {
    const model = tf.sequential({
      layers: [
        tf.layers.embedding({inputDim: 9, outputDim: 6, inputLength: 4}),
        tf.layers.dense({units: 5}),
        new layers.Dense({units: 4, dtype: 'mixed_bfloat16', loraRank: 2}),
        tf.layers.layerNormalization(),
        new layers.LayerNormalization(),
      ],
    });
    const twice = tf.model({
      inputs: model.inputs,
      outputs: tf.layers.multiply().apply([model.output, model.output] as tf.SymbolicTensor[]) as tf.SymbolicTensor,
    });
    const copy = await save(twice);
    const classes = (of: tf.LayersModel) => of.layers.map(layer => layer.constructor);
    expect(classes(copy)).toEqual(classes(twice));
    const dense = copy.layers[3] as gemma3.layers.Dense;
    expect(dense).toBeInstanceOf(LoraLayer);
    expect([dense.loraRank, dense.dtypePolicy.name]).toEqual([2, 'mixed_bfloat16']);
    const ids = tf.tensor2d([[1, 2, 3, 8]]);
    expect(copy.predict(ids) as tf.Tensor).toBeAllClose(twice.predict(ids) as tf.Tensor, 1e-6);
  });

  test('masks go on through the layers that support them in Keras', () => {
    const supported = CASES.filter(({make}) => make('float32').supportsMasking).map(({name}) => name);
    expect(supported).toEqual(['Dense', 'LayerNormalization', 'UnitNormalization', 'Gemma3MeanPooling']);
    const mask = tf.tensor2d([[1, 0]], undefined, 'bool');
    expect(new layers.Dense({units: 2}).computeMask(tf.zeros([1, 2, 3]), mask)).toBe(mask);
    // Models predict with masks from stock layers in front, too.
    const model = tf.sequential({
      layers: [
        tf.layers.embedding({inputDim: 9, outputDim: 4, inputLength: 5, maskZero: true}),
        new layers.Dense({units: 4}),
        new layers.UnitNormalization(),
        tf.layers.lstm({units: 3}),
      ],
    });
    const states = model.predict(tf.tensor2d([[3, 5, 0, 0, 0]])) as tf.Tensor;
    expect(states.shape).toEqual([1, 3]);
  });

  test('options of a call are refused in a graph, which would not keep them', () => {
    const embedding = new layers.ReversibleEmbedding({inputDim: 9, outputDim: 4, name: 'tokens'});
    const hidden = embedding.apply(tf.input({shape: [5]})) as tf.SymbolicTensor;
    expect(() => embedding.apply(hidden, {reverse: true})).toThrow(ValueError);
    expect(() => embedding.apply(hidden, {reverse: true})).toThrow(
      'ReversibleEmbedding "tokens" expected no options when it is applied to symbolic tensors',
    );
    tf.tidy(() =>
      expect((embedding.apply(tf.zeros([1, 5, 4]), {reverse: true}) as tf.Tensor).shape).toEqual([1, 5, 9]),
    );
  });
});

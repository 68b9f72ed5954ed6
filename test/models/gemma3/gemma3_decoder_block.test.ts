/** The decoder block against its formula, with masks and with a cache. */
import * as tf from '@tensorflow/tfjs';
import {KvCache} from '../../../src/generation/kv_cache';
import {Gemma3DecoderBlock, type Gemma3DecoderBlockArgs} from '../../../src/models/gemma3/gemma3_decoder_block';
import {normal} from '../../support/random';

const SMALL = {hiddenDim: 6, intermediateDim: 10, headDim: 4, numQueryHeads: 2, numKeyValueHeads: 1};

function filled(args: Partial<Gemma3DecoderBlockArgs> = {}): Gemma3DecoderBlock {
  const layer = new Gemma3DecoderBlock({...SMALL, name: 'block', ...args});
  layer.build([null, null, 6]);
  tf.tidy(() => layer.setWeights(layer.weights.map((weight, i) => tf.mul(normal(weight.shape as number[], i), 0.4))));
  return layer;
}

describe('Gemma3DecoderBlock', () => {
  test('has the weights of Keras in the order of Keras', () => {
    const layer = filled({
      useQueryKeyNorm: true,
      usePostFfwNorm: true,
      usePostAttentionNorm: true,
      gateDimReduction: 2,
    });
    expect(layer.weights.map(weight => [weight.originalName, weight.shape])).toEqual([
      ['block/pre_attention_norm/scale', [6]],
      ['block/post_attention_norm/scale', [6]],
      ['block/attention/query/kernel', [2, 6, 4]],
      ['block/attention/key/kernel', [1, 6, 4]],
      ['block/attention/value/kernel', [1, 6, 4]],
      ['block/attention/query_norm/scale', [4]],
      ['block/attention/key_norm/scale', [4]],
      ['block/attention/attention_output/kernel', [2, 4, 6]],
      ['block/pre_ffw_norm/scale', [6]],
      ['block/post_ffw_norm/scale', [6]],
      ['block/ffw_gating/kernel', [6, 5]],
      ['block/ffw_gating_2/kernel', [6, 5]],
      ['block/ffw_linear/kernel', [5, 6]],
    ]);
    layer.dispose();
  });

  test('is attention and a gated network, each with a residual connection', () => {
    tf.tidy(() => {
      const layer = filled({usePostFfwNorm: true, usePostAttentionNorm: true});
      const x = normal([2, 5, 6], 9);
      const y = tf.add(x, layer.postAttentionNorm!.call(layer.attention.call(layer.preAttentionNorm.call(x))));
      const normed = layer.preFfwNorm.call(y);
      const [gate, value, linear] = [layer.gatingFfw, layer.gatingFfw2, layer.ffwLinear].map(
        dense => (z: tf.Tensor) =>
          tf.matMul(z.reshape([-1, z.shape.at(-1)!]) as tf.Tensor2D, dense.kernel.read() as tf.Tensor2D),
      ) as [(z: tf.Tensor) => tf.Tensor, (z: tf.Tensor) => tf.Tensor, (z: tf.Tensor) => tf.Tensor];
      const g = gate(normed);
      const gelu = tf.mul(
        tf.mul(g, 0.5),
        tf.add(1, tf.tanh(tf.mul(Math.sqrt(2 / Math.PI), tf.add(g, tf.mul(0.044715, tf.pow(g, 3)))))),
      );
      const ffw = linear(tf.mul(gelu, value(normed))).reshape([2, 5, 6]);
      expect(layer.apply(x) as tf.Tensor).toBeAllClose(tf.add(y, layer.postFfwNorm!.call(ffw)));
      layer.dispose();
    });
  });

  test('hides padding, and lets the tokens of an image see each other', () => {
    tf.tidy(() => {
      const layer = filled();
      const x = normal([1, 6, 6], 9);
      const changed = tf.add(x, tf.mul(tf.tensor([0, 0, 0, 1, 0, 0]).reshape([1, 6, 1]), 3));
      const ones = tf.ones([1, 6], 'int32');
      /** Which tokens' results change when token 3 changes. */
      const touched = (...masks: tf.Tensor[]) => {
        const difference = tf.sub(layer.call([x, ...masks]), layer.call([changed, ...masks]));
        return Array.from(tf.max(tf.abs(difference), 2).dataSync(), value => (value > 1e-5 ? 1 : 0));
      };
      expect(touched()).toEqual([0, 0, 0, 1, 1, 1]);
      expect(touched(ones)).toEqual([0, 0, 0, 1, 1, 1]);
      expect(touched(tf.tensor2d([[1, 1, 1, 0, 1, 1]], undefined, 'int32'))).toEqual([0, 0, 0, 1, 0, 0]);
      expect(touched(ones, tf.tensor2d([[0, 1, 1, 1, 0, 0]], undefined, 'int32'))).toEqual([0, 1, 1, 1, 1, 1]);
      expect(touched(ones, tf.tensor2d([[1, 1, 0, 1, 0, 0]], undefined, 'int32'))).toEqual([0, 0, 0, 1, 1, 1]);
      layer.dispose();
    });
  });

  test.each([null, 3])('computes the same token by token, with a window of %j', window => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const layer = filled({
        useQueryKeyNorm: true,
        ...(window === null ? {} : {useSlidingWindowAttention: true, slidingWindowSize: window}),
      });
      const x = normal([2, 8, 6], 9);
      const whole = layer.call(x);
      const cache = new KvCache({batch: 2, maxLength: 8, numKeyValueHeads: 1, headDim: 4, window});
      for (let t = 0; t < 8; t++) {
        const y = layer.call(tf.slice(x, [0, t, 0], [2, 1, 6]), {cache});
        expect(y).toBeAllClose(tf.slice(whole, [0, t, 0], [2, 1, 6]));
      }
      cache.dispose();
      layer.dispose();
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  test('is restored from its configuration, and from the JSON of a model', async () => {
    const args = {...SMALL, useQueryKeyNorm: true, usePostFfwNorm: true, slidingWindowSize: 5, logitSoftCap: 4};
    const config = new Gemma3DecoderBlock({...args, dtype: 'bfloat16', name: 'b'}).getConfig();
    expect(new Gemma3DecoderBlock(config as unknown as Gemma3DecoderBlockArgs).getConfig()).toEqual(config);
    const block = new Gemma3DecoderBlock({...args, dtype: 'mixed_bfloat16', inputShape: [null, 6]});
    const model = tf.sequential({layers: [block]});
    const json = JSON.parse(JSON.stringify(model.toJSON(null, false))) as tf.io.ModelJSON['modelTopology'];
    const copy = await tf.models.modelFromJSON(json);
    copy.setWeights(model.getWeights());
    expect(copy.layers[0]!.getConfig()).toEqual(block.getConfig());
    tf.tidy(() => {
      const x = normal([2, 5, 6], 9);
      expect(copy.predict(x) as tf.Tensor).toBeAllClose(model.predict(x) as tf.Tensor, 1e-6);
    });
  });

  test.each<[object, string]>([
    [{intermediateDim: 0}, '`intermediateDim` to be a positive'],
    [{headDim: 5}, 'expected an even headDim'],
    [{hidden: 5}, 'has no argument "hidden"'],
    [{slidingWindowSize: -1}, 'Gemma3DecoderBlock expected `slidingWindowSize` to be a positive'],
    [{logitSoftCap: 0}, 'Gemma3DecoderBlock expected `logitSoftCap` to be null or above 0'],
    [{usePostFfwNorm: 1}, 'to be true or false. Received: usePostFfwNorm=1.'],
    [{layerNormEpsilon: 0}, '`layerNormEpsilon` to be above 0'],
    [{numKeyValueHeads: 3}, 'Received: numQueryHeads=2, numKeyValueHeads=3.'],
    [{name: 3}, 'Gemma3DecoderBlock expected `name` to be a string. Received: name=3.'],
  ])('refuses %j', (args, message) => {
    expect(() => new Gemma3DecoderBlock({...SMALL, ...args})).toThrow(message);
  });

  test('refuses missing arguments, counts without a cache and inputs of another width', () => {
    expect(() => new Gemma3DecoderBlock(undefined as never)).toThrow('expected its arguments in one object');
    tf.tidy(() => {
      const layer = filled();
      expect(() => layer.call(tf.zeros([1, 2, 6]), {counts: [1]})).toThrow('Without a cache');
      layer.dispose();
    });
    expect(() => new Gemma3DecoderBlock({...SMALL, name: 'b'}).build([null, null, 5])).toThrow(
      'Gemma3DecoderBlock "b" expected an input (batch, length, 6). Received: [,,5].',
    );
  });
});

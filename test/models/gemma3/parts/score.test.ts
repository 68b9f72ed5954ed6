/** The example in the docstring of KerasHub's `score`, translated: gradients of losses with respect to embeddings. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from '../../../../src';
import {onEachBackend} from '../../../support/backends';
import {expectNoLeak, take} from '../../../support/numbers';

onEachBackend(() =>
  test('computes how embeddings change the losses', async () => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
    await expectNoLeak(async () => {
      const generations = await lm.generate(['What is the capital', 'one two'], {maxLength: 8});
      const preprocessed = await lm.preprocessor!.generatePreprocess(generations, {sequenceLength: 8});
      const {token_ids: tokenIds, padding_mask: paddingMask} = preprocessed;
      const targetIds = tf.tidy(() => tf.concat([tf.slice(tokenIds, [0, 1]), tf.slice(tokenIds, [0, 0], [-1, 1])], 1));

      let embeddings!: tf.Tensor;
      const args = {tokenIds, paddingMask, targetIds, scoringMode: 'loss'} as const;
      const losses = lm.score({
        ...args,
        layerInterceptFn: (x, i) => {
          if (i === -1) embeddings = tf.keep(x);
          return x;
        },
      });
      const gradients = tf.grad(given => lm.score({...args, layerInterceptFn: (x, i) => (i === -1 ? given : x)}))(
        embeddings,
      );
      // Targets of another type are converted inside of the call, and are still there for the gradients.
      const floats = {...args, targetIds: tf.cast(targetIds, 'float32')};
      const same = tf.grad(given => lm.score({...floats, layerInterceptFn: (x, i) => (i === -1 ? given : x)}))(
        embeddings,
      );
      expect(same).toBeAllClose(gradients, 1e-12);
      tf.dispose([floats.targetIds, same]);
      expect(losses.shape).toEqual([2, 8]);
      expect(gradients.shape).toEqual([2, 8, 128]);

      // After a small step along the gradient, the losses have grown by the step times the square of the gradient.
      const step = 1e-3 / Math.max(...(await take(tf.abs(gradients))));
      const moved = tf.tidy(() => tf.add(embeddings, tf.mul(gradients, step)));
      const after = lm.score({...args, layerInterceptFn: (x, i) => (i === -1 ? moved : x)});
      const sum = async (x: tf.Tensor) => (await take(x)).reduce((a, b) => a + b, 0);
      const expected = step * (await sum(tf.tidy(() => tf.square(gradients))));
      const received = (await sum(after)) - (await sum(losses));
      expect(received / expected).toBeGreaterThan(0.9);
      expect(received / expected).toBeLessThan(1.1);
      tf.dispose([Object.values(preprocessed), targetIds, embeddings, gradients, moved]);
    });
    lm.dispose();
  }),
);

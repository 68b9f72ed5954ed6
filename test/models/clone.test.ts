/** Copies of models have the same values, and changing one model does not change the other. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM} from '../../src';
import {onEachBackend} from '../support/backends';
import {TINY_PRESET} from '../support/fixtures';
import {expectNoLeak, take} from '../support/numbers';

const predict = (model: Gemma3Backbone | Gemma3CausalLM) => {
  const ids = [[2, 9, 4, 300]];
  const empty = {images: tf.zeros([1, 0, 64, 64, 3]), vision_indices: tf.zeros([1, 0], 'int32')};
  const inputs = {token_ids: ids, padding_mask: [[1, 1, 1, 1]], vision_mask: [[0, 0, 0, 0]], ...empty};
  const values = take(model.predict(inputs) as tf.Tensor);
  tf.dispose(empty);
  return values;
};

onEachBackend(({formats}) => {
  test.each(['float32' as const, ...formats])('a copy stored as %s is independent', async dtype => {
    await expectNoLeak(async () => {
      const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET, {dtype});
      lm.backbone.layerNorm.trainable = false;
      const copy = lm.clone();
      expect(copy.name).toBe(lm.name);
      expect(copy.preprocessor).toBe(lm.preprocessor);
      expect(copy.backbone.getConfig()).toEqual(lm.backbone.getConfig());
      expect(copy.weights.map(({trainable}) => trainable)).toEqual(lm.weights.map(({trainable}) => trainable));
      const before = await predict(lm);
      expect(await predict(copy)).toEqual(before);
      const scale = copy.backbone.layerNorm.weights[0]!;
      tf.tidy(() => void scale.write(tf.ones(scale.shape as number[])));
      expect(await predict(lm)).toEqual(before);
      expect(await predict(copy)).not.toEqual(before);
      lm.dispose();
      expect(await copy.generate('What is', {maxLength: 8})).toContain('What is');
      copy.dispose();
    });
  });

  test('copies weights that have no values yet', async () => {
    await expectNoLeak(async () => {
      const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET, {loadWeights: false});
      const copy = backbone.clone();
      expect(await predict(copy)).toEqual(await predict(backbone));
      for (const model of [backbone, copy]) model.dispose();
    });
  });
});

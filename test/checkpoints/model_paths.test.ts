/** Paths of variables in Keras' files, compared with files that Keras wrote. */
import {readdirSync, readFileSync} from 'node:fs';
import {join} from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import {MemorySource} from '../../src/base/byte_source';
import {snakeCase} from '../../src/base/casing';
import {kerasPaths} from '../../src/checkpoints/model_paths';
import {Hdf5File} from '../../src/formats/hdf5';
import {Gemma3Backbone} from '../../src/models/gemma3/gemma3_backbone';
import {fixture, fixtureNames} from '../support/fixtures';

test.each([
  ['Gemma3DecoderBlock', 'gemma3_decoder_block'],
  ['RMSNormalization', 'rms_normalization'],
  ['ReversibleEmbedding', 'reversible_embedding'],
  ['EinsumDense', 'einsum_dense'],
  ['CachedGemma3Attention', 'cached_gemma3_attention'],
  ['Conv2D', 'conv2d'],
  ['PReLU', 'p_re_lu'],
  ['A', 'a'],
])('%s is %s', (name, snake) => {
  expect(snakeCase(name)).toBe(snake);
});

test.each(fixtureNames('backbone'))('a backbone has the paths that Keras wrote: %s', async name => {
  const folder = fixture(`backbone/${name}`);
  const backbone = await Gemma3Backbone.fromPreset(folder, {loadWeights: false});
  const paths = [...kerasPaths(backbone)].map(([path, weight]) => `${path} ${weight.shape}`);
  const stored: string[] = [];
  for (const file of readdirSync(folder).filter(entry => entry.endsWith('.h5'))) {
    const hdf5 = await Hdf5File.open(new MemorySource(file, readFileSync(join(folder, file))));
    for (const path of hdf5.paths()) {
      // Keras stores the state of dropout, which is not a weight here.
      if (!path.includes('seed_generator')) stored.push(`${path} ${hdf5.dataset(path)!.shape}`);
    }
  }
  expect(paths.sort()).toEqual(stored.sort());
  expect(paths).toHaveLength(backbone.weights.length);
  backbone.dispose();
});

test('paths are in the order of the weights', () => {
  const backbone = new Gemma3Backbone({
    vocabularySize: 8,
    imageSize: null,
    numLayers: 2,
    numQueryHeads: 1,
    numKeyValueHeads: 1,
    hiddenDim: 4,
    intermediateDim: 4,
    headDim: 2,
  });
  const entries = [...kerasPaths(backbone)];
  expect(entries.map(([, weight]) => weight as tf.LayerVariable)).toEqual(backbone.weights);
  expect(entries.map(([path]) => path).slice(0, 4)).toEqual([
    'layers/reversible_embedding/vars/0',
    'layers/gemma3_decoder_block/pre_attention_norm/vars/0',
    'layers/gemma3_decoder_block/attention/query_dense/vars/0',
    'layers/gemma3_decoder_block/attention/key_dense/vars/0',
  ]);
  backbone.dispose();
});

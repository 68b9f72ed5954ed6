/**
 * Paths of a model's variables in Keras' HDF5 files. They follow from the model, without a table: a layer is stored
 * under its class name in snake case, with a counter from the second layer of a class on, and its sub-layers under
 * their attribute names.
 */
import * as tf from '@tensorflow/tfjs';
import {snakeCase} from '../base/casing';
import {Layer} from '../layers/layer';
import {type AnyWeight} from '../weights/packed_weight';

/** Class names in snake case. The second layer of a class gets `_1`, the third `_2`. */
function numbered<T extends tf.layers.Layer>(layers: readonly T[]): [string, T][] {
  const seen = new Map<string, number>();
  return layers.map(layer => {
    const name = snakeCase(layer.getClassName());
    const count = seen.get(name) ?? 0;
    seen.set(name, count + 1);
    return [count ? `${name}_${count}` : name, layer];
  });
}

/**
 * All layers and sub-layers of a model with their paths, such as `layers/gemma3_decoder_block_1/attention/`.
 *
 * @param order "created", or "saved": Keras saves sub-layers by attribute name, which decides the shard of a variable.
 * @param skip a model inside `root` whose layers are left out.
 */
export function* kerasLayers(
  root: tf.LayersModel | Layer,
  order: 'created' | 'saved',
  prefix = '',
  skip?: tf.LayersModel,
): Generator<[string, Layer]> {
  if (root === skip) return;
  if (root instanceof tf.LayersModel) {
    for (const [name, layer] of numbered(root.layers)) {
      if (layer instanceof Layer || layer instanceof tf.LayersModel) {
        yield* kerasLayers(layer as Layer, order, `${prefix}layers/${name}/`, skip);
      }
    }
    return;
  }
  yield [prefix, root];
  const sublayers = [...root.sublayers];
  if (order === 'saved') sublayers.sort(([a], [b]) => (a < b ? -1 : 1));
  for (const [attribute, child] of sublayers) {
    if (Array.isArray(child)) {
      for (const [name, item] of numbered(child)) yield* kerasLayers(item, order, `${prefix}${attribute}/${name}/`);
    } else {
      yield* kerasLayers(child, order, `${prefix}${attribute}/`);
    }
  }
}

/** A model and the models among its layers, with their paths: '' and `layers/gemma3_backbone/`. */
export function* kerasModels(
  root: tf.LayersModel,
  skip?: tf.LayersModel,
  prefix = '',
): Generator<[string, tf.LayersModel]> {
  if (root === skip) return;
  yield [prefix, root];
  for (const [name, layer] of numbered(root.layers)) {
    if ((layer as unknown) instanceof tf.LayersModel) {
      yield* kerasModels(layer as unknown as tf.LayersModel, skip, `${prefix}layers/${name}/`);
    }
  }
}

/** All variables of a model or layer with their paths: `layers/gemma3_decoder_block_1/attention/query_dense/vars/0`. */
export function* kerasPaths(root: tf.LayersModel | Layer, prefix = ''): Generator<[string, AnyWeight]> {
  for (const [path, layer] of kerasLayers(root, 'created', prefix)) {
    for (const [i, weight] of layer.savedWeights.entries()) yield [`${path}vars/${i}`, weight];
  }
}

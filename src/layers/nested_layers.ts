/** Walks over the layers of a model, and over models that are layers of another model. */
import * as tf from '@tensorflow/tfjs';
import {Layer} from './layer';

/** A layer of this package, or a model as a layer of another one. */
export type LayerOrModel = Layer | tf.LayersModel;

/** The layers of this package and the models that are directly inside a layer or a model, in order. */
export function layersInside(node: LayerOrModel): LayerOrModel[] {
  if (node instanceof Layer) return node.children;
  return node.layers.filter(layer => layer instanceof Layer || layer instanceof tf.LayersModel);
}

/**
 * Yields all layers below a model, depth first. Nested models are yielded as well, before their layers.
 *
 * @param lastFirst whether to visit the layers inside a layer from last to first. Layers of `model` keep their order.
 */
export function* nestedLayers(model: tf.LayersModel, lastFirst = false): Generator<LayerOrModel> {
  for (const layer of layersInside(model)) yield* withNested(layer, lastFirst);
}

function* withNested(node: LayerOrModel, lastFirst: boolean): Generator<LayerOrModel> {
  yield node;
  const inside = layersInside(node);
  for (const layer of lastFirst ? inside.reverse() : inside) yield* withNested(layer, lastFirst);
}

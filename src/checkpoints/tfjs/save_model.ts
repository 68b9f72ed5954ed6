/**
 * Lets `save` of any tfjs model keep packed weights as they are stored. tfjs would unpack them, never dispose of what it
 * unpacked, and pack it again when the model is loaded, with different int8 and int4 values than before.
 */
import * as tf from '@tensorflow/tfjs';
import {WeightSnapshot} from '../../weights/in_use';
import {type AnyWeight, PackedWeight} from '../../weights/packed_weight';
import {weightStream} from '../../weights/repack';

type Save = tf.LayersModel['save'];

/** The named tensors that tfjs writes. */
type NamedTensors = ReturnType<tf.LayersModel['getNamedWeights']>;

/** The tensors of models that are being saved. tfjs reads them before its first `await`. */
const prepared = new WeakMap<tf.LayersModel, NamedTensors>();

async function savePacked(model: tf.LayersModel, save: Save, ...args: Parameters<Save>): Promise<tf.io.SaveResult> {
  const weights = args[1]?.trainableOnly ? model.trainableWeights.filter(weight => weight.trainable) : model.weights;
  const snapshot = new WeightSnapshot(() => model.weights);
  const named: NamedTensors = [];
  const {tensorToSave} = await import('./write_weights');
  try {
    for (const weight of weights as (AnyWeight | tf.LayerVariable)[]) {
      const tensor = weight instanceof PackedWeight ? await tensorToSave(weight, weightStream(weight)) : weight.read();
      named.push({name: weight.originalName, tensor});
    }
    snapshot.check('saving a model');
    prepared.set(model, named);
    const result = save.apply(model, args);
    prepared.delete(model);
    return await result;
  } finally {
    // The tensors of other weights belong to the weights.
    tf.dispose(named.map(({tensor}) => tensor).filter(tensor => !(tensor instanceof tf.Variable)));
  }
}

const stock = tf.LayersModel.prototype as unknown as {
  save: Save;
  getNamedWeights: (...args: unknown[]) => NamedTensors;
};
const {save, getNamedWeights} = stock;
stock.save = function (this: tf.LayersModel, ...args) {
  const packed = this.weights.some(weight => weight instanceof PackedWeight);
  return packed ? savePacked(this, save, ...args) : save.apply(this, args);
};
stock.getNamedWeights = function (this: tf.LayersModel, ...args) {
  return prepared.get(this) ?? getNamedWeights.apply(this, args);
};

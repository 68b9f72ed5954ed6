/** Merges LoRA into the weights that it adapts. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {MergedStream} from '../weights/merged_stream';
import {PackedWeight} from '../weights/packed_weight';
import {weightStream} from '../weights/repack';
import {MEMORY_PIECE} from '../weights/value_stream';
import {loraLayers, NO_LORA} from './model_lora';

/** Backbones that are being merged: a second call would add the products twice. */
const busy = new WeakSet<tf.LayersModel>();

/** Implements `Backbone.mergeLora`; see there for errors. */
export async function mergeLora(backbone: tf.LayersModel): Promise<void> {
  const layers = [...loraLayers(backbone).values()];
  if (layers.length === 0) throw new ValueError(NO_LORA);
  if (busy.has(backbone)) throw new ValueError('The model is being merged. Wait for the promise of the first call.');
  busy.add(backbone);
  try {
    for (const layer of layers) {
      const kernel = layer.adapted;
      const stream = new MergedStream(weightStream(kernel), () => layer.readAdapter());
      try {
        if (kernel instanceof PackedWeight) await kernel.fillFromMemory(stream, 'logical', MEMORY_PIECE);
        else await kernel.fill(stream);
      } finally {
        stream.dispose();
      }
      layer.disableLora();
    }
  } finally {
    busy.delete(backbone);
  }
}

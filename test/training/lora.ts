/** LoRA as KerasHub's `enable_lora` has it by default. */
import {type Gemma3Backbone} from '../../src';

export function enableLora(backbone: Gemma3Backbone, rank: number): void {
  backbone.trainable = false;
  for (const {attention} of backbone.transformerLayers) {
    for (const layer of [attention.queryDense, attention.valueDense]) {
      layer.trainable = true;
      layer.enableLora(rank);
    }
  }
  for (const {attn} of backbone.visionEncoder?.layers[0].resblocks ?? []) {
    for (const layer of [attn.queryProj, attn.valueProj]) {
      layer.trainable = true;
      layer.enableLora(rank);
    }
  }
}

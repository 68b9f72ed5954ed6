/** This package, on its backend `webgpu`. */
import * as tf from '@tensorflow/tfjs';
import {describeBackends, Gemma3CausalLM, useBackend, weights} from 'tfjs-gemma3';
import {Watch} from '../watch.js';

export const name = 'tfjs-gemma3';

/** Bytes of weights that a token reads: all but those of the vision encoder. */
function weightBytes({backbone}) {
  const vision = new Set(backbone.visionEncoder?.weights ?? []);
  return backbone.weights
    .filter(weight => !vision.has(weight))
    .map(weight => (weight instanceof weights.PackedWeight ? weight.bits.size : tf.util.sizeFromShape(weight.shape)))
    .reduce((sum, words) => sum + 4 * words, 0);
}

export async function open({dtype}, say) {
  // An adapter in software is allowed, and named in the report: so the page can be tried anywhere.
  await useBackend('webgpu', {software: true});
  const onProgress = ({file, loaded, total}) => say(`${file}, ${Math.round((100 * loaded) / total)} %`);
  const lm = await Gemma3CausalLM.fromPreset(`${location.origin}/preset`, {dtype, onProgress});
  lm.compile({sampler: 'greedy'});
  return {
    model: `${await presetName()}, ${dtype}`,
    adapter: (await describeBackends()).find(({name}) => name === 'webgpu').details,
    weightBytes: weightBytes(lm),
    copySpeed: () => tf.backend().copySpeed(),
    async run(text, tokens) {
      const watch = new Watch();
      const {tokens: prompts} = await lm.preprocessor.promptTokens(text);
      const [prompt] = prompts;
      const options = {maxLength: prompt.length + tokens, stopTokenIds: null};
      for await (const {length} of lm.steps([{tokens: prompt}], options)) watch.arrived(length);
      return watch.result(prompt.length);
    },
  };
}

async function presetName() {
  const response = await fetch('preset/config.json');
  const {config} = await response.json();
  const {num_layers: layers, hidden_dim: width} = config ?? {};
  return `preset of ${layers} layers, width ${width}`;
}

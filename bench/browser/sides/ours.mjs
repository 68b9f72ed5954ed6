/** This package on its backend `webgpu`. */
import {applyChatTemplate, Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
import {startGpuMeter} from '../../../cli/support/gpu_meter';

export const name = 'tfjs-gemma3';

export async function open({preset, dtype, software, onProgress}) {
  await useBackend('webgpu', software ? {software} : {});
  const lm = await Gemma3CausalLM.fromPreset(preset, {
    dtype,
    onProgress: ({loaded, total}) => onProgress(loaded / total),
  });
  const meter = await startGpuMeter('webgpu', lm);
  return {
    what: `${dtype}, ${preset}`,
    async generate(prompt, tokens, onToken) {
      const text = applyChatTemplate([{role: 'user', content: prompt}], {addGenerationPrompt: true});
      const {tokens: rows} = await lm.preprocessor.promptTokens(text);
      const options = {maxLength: rows[0].length + tokens, stopTokenIds: null, sampler: 'greedy'};
      let count = 0;
      for await (const step of lm.steps([{tokens: rows[0]}], options)) {
        if (count === 0) meter.begins();
        count += step.length;
        onToken();
      }
      meter.ends();
      return count;
    },
    facts: (tokens, secondsPerToken) => meter.result(tokens, secondsPerToken),
    close: () => lm.dispose(),
  };
}

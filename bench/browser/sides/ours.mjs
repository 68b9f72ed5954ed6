/** This package on its backend `webgpu`. */
import {Gemma3CausalLM, useBackend} from 'tfjs-gemma3';
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
      let pieces = 0;
      const options = {maxLength: lm.preprocessor.sequenceLength, maxNewTokens: tokens, stopTokenIds: null};
      for await (const piece of lm.stream([{role: 'user', content: prompt}], {...options, sampler: 'greedy'})) {
        if (pieces++ === 0) meter.begins();
        onToken(piece);
      }
      meter.ends();
      return tokens;
    },
    facts: (tokens, secondsPerToken) => meter.result(tokens, secondsPerToken),
    close: () => lm.dispose(),
  };
}
